package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// heldTransport answers when it is let go, whatever the request's context says, as
// client-go does while a program looks for credentials.
type heldTransport struct {
	held   chan struct{}
	closed chan struct{}
}

func (h heldTransport) RoundTrip(*http.Request) (*http.Response, error) {
	<-h.held
	return &http.Response{StatusCode: http.StatusOK, Body: tellClosed{strings.NewReader("late"), h.closed}}, nil
}

type tellClosed struct {
	io.Reader
	closed chan struct{}
}

func (t tellClosed) Close() error {
	close(t.closed)
	return nil
}

func TestPromptDoesNotWaitForCredentials(t *testing.T) {
	t.Parallel()
	h := heldTransport{make(chan struct{}), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://cluster.example/version", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	response, err := prompt{h}.RoundTrip(r)
	if response != nil {
		_ = response.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(h.held)
	// The answer that came too late is not left open.
	<-h.closed
}

func TestPromptPassesAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer server.Close()
	client := &http.Client{Transport: prompt{http.DefaultTransport}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", response.StatusCode)
	}
}

// Only a client with a program for its credentials needs it.
func TestPromptIsForPrograms(t *testing.T) {
	t.Parallel()
	plain := &rest.Config{Host: "https://cluster.example", Timeout: DefaultTimeout}
	program := rest.CopyConfig(plain)
	program.ExecProvider = &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: "credentials", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}
	for config, want := range map[*rest.Config]bool{plain: false, program: true} {
		client, err := httpClient(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := client.Transport.(prompt); got != want {
			t.Errorf("%v: %T", config.ExecProvider, client.Transport)
		}
	}
}

// A password in the address of a server is nobody's business.
func TestErrorsHideCredentials(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"https://user:pass%40word@127.0.0.1:1", "https://user:pass@word@127.0.0.1:1"} {
		config := &rest.Config{Host: host, TLSClientConfig: rest.TLSClientConfig{CertData: []byte("none"), KeyData: []byte("none")}}
		_, err := NewCluster(config, Options{})
		if err == nil || strings.Contains(err.Error(), "pass") || !strings.Contains(err.Error(), "cluster 127.0.0.1:1: ") {
			t.Errorf("%s: %v", host, err)
		}
	}
}
