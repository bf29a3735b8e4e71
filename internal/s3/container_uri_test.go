package s3

import (
	"net/http"
	"strings"
	"testing"
)

// Without encryption nobody is asked for credentials but this machine and the agents of
// ECS and EKS, and what is wrong is not repeated.
func TestContainerURI(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ relative, full, uri, want string }{
		{"/v2/credentials/x?a=b", "", "http://169.254.170.2/v2/credentials/x?a=b", ""},
		{"/relative", "http://169.254.170.23/full", "http://169.254.170.2/relative", ""},
		{"", "http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/credentials", ""},
		{"", "http://[fd00:ec2::23]/v1/credentials", "http://[fd00:ec2::23]/v1/credentials", ""},
		{"", "http://[fd00:ec2:0:0::23]/", "http://[fd00:ec2:0:0::23]/", ""},
		{"", "http://169.254.170.2:80/x", "http://169.254.170.2:80/x", ""},
		{"", "http://127.1.2.3:51679/x", "http://127.1.2.3:51679/x", ""},
		{"", "http://[::1]:8080/x", "http://[::1]:8080/x", ""},
		{"", "http://[::ffff:127.0.0.1]/x", "http://[::ffff:127.0.0.1]/x", ""},
		{"", "http://LocalHost/x", "http://LocalHost/x", ""},
		{"", "https://credentials.example.com/x", "https://credentials.example.com/x", ""},

		{"@evil.example.com/hush", "", "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: want a path that begins with /"},
		{"/a\nhush", "", "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: want a path"},
		{"", "http://credentials.example.com/hush", "", "http to credentials.example.com: without encryption"},
		{"", "http://localhost.example.com/hush", "", "http to localhost.example.com"},
		{"", "http://127.0.0.1.example.com/hush", "", "http to 127.0.0.1.example.com"},
		{"", "http://169.254.169.254/latest/hush", "", "http to 169.254.169.254"},
		{"", "http://169.254.170.3/hush", "", "http to 169.254.170.3"},
		{"", "http://[fd00:ec2::254]/hush", "", "http to fd00:ec2::254"},
		{"", "http://[fd00:ec2::23%25eth0]/hush", "", "http to fd00:ec2::23%eth0"},
		{"", "http://10.0.0.1/hush", "", "http to 10.0.0.1"},
		{"", "http://2130706433/hush", "", "http to 2130706433"},
		{"", "http://user:hush@localhost/", "", "AWS_CONTAINER_CREDENTIALS_FULL_URI: want a URL"},
		{"", "ftp://localhost/hush", "", "want a URL"},
		{"", "http:///hush", "", "want a URL"},
		{"", "localhost/hush", "", "want a URL"},
		{"", "http://local\nhost/hush", "", "want a URL"},
	} {
		env := map[string]string{envRelativeURI: test.relative, envFullURI: test.full}
		uri, err := containerURI(Options{Env: func(name string) string { return env[name] }})
		switch {
		case uri != test.uri:
			t.Errorf("%+v: have %q", test, uri)
		case (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want):
			t.Errorf("%+v: have %v", test, err)
		case err != nil && strings.Contains(err.Error(), "hush"):
			t.Errorf("%+v: the error repeats the value: %v", test, err)
		}
	}
}

// A proxy would read the token that goes to the agent of the node.
func TestContainerWithoutProxy(t *testing.T) {
	t.Parallel()
	for uri, proxied := range map[string]bool{"http://169.254.170.23/v1/credentials": false, "https://credentials.example.com/x": true} {
		transport, err := newTransport(nil)
		if err != nil {
			t.Fatal(err)
		}
		client := containerClient(uri, transport)
		if has := client.Transport.(*http.Transport).Proxy != nil; has != proxied {
			t.Errorf("%s goes by a proxy: %t", uri, has)
		}
		if transport.Proxy == nil {
			t.Error("the service itself is not reached by the proxy any more")
		}
	}
}
