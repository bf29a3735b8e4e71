package report

import (
	"bytes"
	"html/template"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func testPage() *page {
	return &page{
		Kicker: "Escape report", Title: evil, Facts: []pageFact{{"Cluster", evil}}, Notes: []string{evil},
		Nav:  []pageLink{{"there", "There", "2"}},
		Body: template.HTML(`<section id="there"><h2>There</h2></section>`), Foot: evil,
	}
}

func TestPagePolicyNamesWhatIsInThePage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := writePage(&out, testPage()); err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	var policy string
	hashes := map[string]string{}
	for n := range doc.Descendants() {
		switch n.Data {
		case "meta":
			if attribute(n, "http-equiv") == "Content-Security-Policy" {
				policy = attribute(n, "content")
			}
		case "style", "script":
			if hashes[n.Data] != "" {
				t.Errorf("there are two <%s>", n.Data)
			}
			hashes[n.Data] = sourceHash(n.FirstChild.Data)
		}
	}
	want := "default-src 'none'; style-src " + hashes["style"] + "; script-src " + hashes["script"] + "; img-src data:; base-uri 'none'; form-action 'none'"
	if policy != want {
		t.Errorf("the policy is\n%s\nwant\n%s", policy, want)
	}
}

func TestPageShowsNoTextAsItIs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := writePage(&out, testPage()); err != nil {
		t.Fatal(err)
	}
	for _, r := range out.String() {
		if r != '\n' && hidden(r) {
			t.Fatalf("%U is in the page", r)
		}
	}
	if n := strings.Count(out.String(), "<script>"); n != 1 {
		t.Errorf("there are %d <script>", n)
	}
	if !strings.Contains(out.String(), `evil\x1b[31m\x1b]0;title\x07\r\n\u202edrowkcab\u2066\u200b&lt;script&gt;`) {
		t.Error("the title is not in it as text")
	}
}

// attribute is that of an element, empty when it has none.
func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
