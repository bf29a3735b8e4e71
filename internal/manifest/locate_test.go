package manifest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// documents reads a text and returns its pods.
func documents(t testing.TB, text string) []*manifest.Document {
	t.Helper()
	var docs []*manifest.Document
	err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)},
		func(*manifest.Document) int { return 0 },
		func(r manifest.Record[int]) error {
			if r.Failure != nil {
				t.Errorf("%+v", r.Failure)
			}
			if r.Document != nil {
				docs = append(docs, r.Document)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// place renders a location as "line:column field", with a ~ in front if it is that
// of a field above.
func place(d *manifest.Document, field, container, item string) string {
	l := d.Locate(field, container, item)
	near := ""
	if l.Nearest {
		near = "~"
	}
	return fmt.Sprintf("%s%d:%d %s", near, l.Line, l.Column, l.Field)
}

type question struct{ field, container, item, want string }

func ask(t *testing.T, d *manifest.Document, questions []question) {
	t.Helper()
	for _, q := range questions {
		if got := place(d, q.field, q.container, q.item); got != q.want {
			t.Errorf("Locate(%q, %q, %q) = %s, want %s", q.field, q.container, q.item, got, q.want)
		}
	}
}

func TestLocateInADeployment(t *testing.T) {
	docs := documents(t, `# a comment
---
apiVersion: v1
kind: Service
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: x
spec:
  template:
    metadata:
      annotations:
        container.apparmor.security.beta.kubernetes.io/web: unconfined
        "é/ü": x
    spec:
      hostPID: true
      initContainers: [{name: init, image: i, securityContext: {privileged: true}}]
      containers:
      - name: side
        image: s
      - image: w
        name: web
        securityContext:
          capabilities:
            add:
            - NET_ADMIN
            -   SYS_ADMIN
        ports: [{containerPort: 1}, {é: 1, hostPort: 80}]
      volumes:
      - {name: tmp}
      - name: host
        hostPath: {path: /}
`)
	ask(t, docs[0], []question{
		{"spec.hostPID", "", "", "17:7 spec.template.spec.hostPID"},
		{"spec.hostIPC", "", "", "~16:5 spec.template.spec.hostIPC"},
		{"metadata.annotations[container.apparmor.security.beta.kubernetes.io/web]", "", "", "14:9 spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/web]"},
		{"metadata.annotations[é/ü]", "", "", "15:9 spec.template.metadata.annotations[é/ü]"},
		{"metadata.labels", "", "", "~12:5 spec.template.metadata.labels"},
		{"spec.initContainers[0].securityContext.privileged", "", "", "18:65 spec.template.spec.initContainers[0].securityContext.privileged"},
		{"spec.containers[1].securityContext.capabilities.add[1]", "", "", "28:17 spec.template.spec.containers[1].securityContext.capabilities.add[1]"},
		{"spec.containers[1].ports[1].hostPort", "", "", "29:44 spec.template.spec.containers[1].ports[1].hostPort"},
		{"spec.containers[0].securityContext.privileged", "", "", "~20:9 spec.template.spec.containers[0].securityContext.privileged"},
		{"spec.containers[7].image", "", "", "~19:7 spec.template.spec.containers[7].image"},
		{"spec.volumes[1].hostPath", "", "", "33:9 spec.template.spec.volumes[1].hostPath"},
		{"spec.volumes[0].emptyDir", "", "", "~31:9 spec.template.spec.volumes[0].emptyDir"},
		{"", "", "", "11:3 spec.template"},
		// A live pod has other containers, volumes and capabilities around them.
		{"spec.containers[0].image", "web", "", "22:9 spec.template.spec.containers[1].image"},
		{"spec.containers[2]", "side", "", "20:9 spec.template.spec.containers[0]"},
		{"spec.containers[0].securityContext.capabilities.add[0]", "web", "SYS_ADMIN", "28:17 spec.template.spec.containers[1].securityContext.capabilities.add[1]"},
		{"spec.containers[1].image", "istio", "", "~19:7 spec.template.spec.containers[1].image"},
		{"spec.ephemeralContainers[0].image", "web", "", "~16:5 spec.template.spec.ephemeralContainers[0].image"},
		{"spec.initContainers[3].image", "init", "", "18:37 spec.template.spec.initContainers[0].image"},
		{"spec.volumes[9].hostPath", "", "host", "33:9 spec.template.spec.volumes[1].hostPath"},
		{"spec.volumes[0].hostPath", "", "kube-api-access", "~30:7 spec.template.spec.volumes[0].hostPath"},
	})
}

func TestLocateThroughAnchors(t *testing.T) {
	docs := documents(t, `apiVersion: v1
kind: Pod
x: &c
  image: i
  securityContext: &sc {privileged: true}
metadata: {name: p}
spec:
  hostIPC: &yes true
  hostPID: *yes
  containers:
  - <<: *c
    name: a
  - name: b
    securityContext: *sc
  - *c
  - {<<: [{name: d}, *c], image: other}
`)
	ask(t, docs[0], []question{
		{"spec.hostPID", "", "", "9:3 spec.hostPID"},
		{"spec.containers[0].name", "", "", "12:5 spec.containers[0].name"},
		{"spec.containers[0].securityContext.privileged", "", "", "5:25 spec.containers[0].securityContext.privileged"},
		{"spec.containers[1].securityContext", "", "", "14:5 spec.containers[1].securityContext"},
		{"spec.containers[1].securityContext.privileged", "", "", "5:25 spec.containers[1].securityContext.privileged"},
		{"spec.containers[2].image", "", "", "4:3 spec.containers[2].image"},
		{"spec.containers[3].image", "", "", "16:27 spec.containers[3].image"},
		{"spec.containers[3].securityContext", "", "", "5:3 spec.containers[3].securityContext"},
		{"spec.containers[0].image", "d", "", "16:27 spec.containers[3].image"},
	})
	if c := docs[0].Spec.Containers[3]; c.Image != "other" || c.Name != "d" || !*c.SecurityContext.Privileged {
		t.Errorf("the merged container is %+v", c)
	}
}

func TestLocateInLists(t *testing.T) {
	const yamlItem = "- apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n  spec:\n    hostPID: true\n    containers: []\n"
	for name, text := range map[string]string{
		"cut by items": "apiVersion: v1\nkind: List\nitems:\n" + yamlItem + yamlItem + yamlItem,
		"as a whole":   "apiVersion: v1\nkind: \"List\" \nmetadata: {}\nitems:\n"[len("apiVersion: v1\n"):] + yamlItem + yamlItem + yamlItem + "apiVersion: v1\n",
		"a sequence":   "# a\n# b\n\n" + yamlItem + yamlItem + yamlItem,
	} {
		docs := documents(t, text)
		if len(docs) != 3 {
			t.Fatalf("%s: %d documents", name, len(docs))
		}
		for i, want := range []string{"8:5 spec.hostPID", "14:5 spec.hostPID", "20:5 spec.hostPID"} {
			if got := place(docs[i], "spec.hostPID", "", ""); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
	docs := documents(t, "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: &s\n    hostPID: true\n"+
		"- apiVersion: v1\n  kind: Service\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: x}\n  spec: *s\n")
	ask(t, docs[1], []question{
		{"spec.hostPID", "", "", "7:5 spec.hostPID"},
		{"spec", "", "", "13:3 spec"},
		{"metadata.name", "", "", "12:14 metadata.name"},
	})
}

func TestLocateInJSON(t *testing.T) {
	docs := documents(t, `{"kind":"List","apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Pod","spec":{"hostPID":true}}, {"apiVersion":"v1",
"kind":"Pod","metadata":{"annotations":{"é😀":"x","a.b/c":"y"}},
  "spec" : { "containers" : [ {"name":"a"},
    {"name":"b","securityContext":{"capabilities":{"add":["A", "B"]}}} ] } } ]}
{"apiVersion":"v1","kind":"Pod","spec":{"hostPID":true}} {"apiVersion":"v1","kind":"Pod","spec":{"hostPID":true}}
`)
	ask(t, docs[0], []question{{"spec.hostPID", "", "", "1:83 spec.hostPID"}})
	ask(t, docs[1], []question{
		{"spec", "", "", "3:3 spec"},
		{"metadata.annotations[a.b/c]", "", "", "2:50 metadata.annotations[a.b/c]"},
		{"spec.containers[1].securityContext.capabilities.add[1]", "", "", "4:64 spec.containers[1].securityContext.capabilities.add[1]"},
		{"spec.containers[0].image", "b", "", "~4:5 spec.containers[1].image"},
	})
	ask(t, docs[2], []question{{"spec.hostPID", "", "", "5:41 spec.hostPID"}})
	ask(t, docs[3], []question{{"spec.hostPID", "", "", "5:98 spec.hostPID"}})
}

// While a document is judged its nodes are at hand; later they are made again.
func TestLocateIsTheSameWhileJudgingAndAfter(t *testing.T) {
	var wg sync.WaitGroup
	err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: stream(40)},
		func(d *manifest.Document) string { return place(d, "spec.containers[0].image", "", "") },
		func(r manifest.Record[string]) error {
			if r.Document == nil {
				return nil
			}
			for range 3 {
				wg.Go(func() {
					if again := place(r.Document, "spec.containers[0].image", "", ""); again != r.Value {
						t.Errorf("%s, then %s", r.Value, again)
					}
				})
			}
			return nil
		})
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLocateWithTags(t *testing.T) {
	docs := documents(t, "apiVersion: !!str v1\nkind: Pod\nspec:\n  hostPID: !!bool 'true'\n  containers:\n  - name: !!str 12\n    image: !!str yes\n")
	if !docs[0].Spec.HostPID || docs[0].Spec.Containers[0].Name != "12" {
		t.Errorf("%+v", docs[0].Spec)
	}
	ask(t, docs[0], []question{
		{"spec.hostPID", "", "", "4:3 spec.hostPID"},
		{"spec.containers[5].image", "12", "", "7:5 spec.containers[0].image"},
	})
}

func FuzzLocate(f *testing.F) {
	for _, path := range []string{"spec.containers[0].image", "spec.containers[99]", "metadata.annotations[a.b/c]", "[", "]", "a[b", "..", "spec.volumes[0]x", "[0][1]", "spec[-1]"} {
		f.Add(deploymentText(1), path, "", "")
		f.Add(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"a"}]}}`, path, "a", "b")
	}
	f.Add("apiVersion: v1\nkind: Pod\nspec: &a {<<: *a, containers: []}\n", "spec.x", "", "")
	f.Add("apiVersion: v1\nkind: Pod\nspec: {containers: []}\nx: &a\n  <<: &b\n    <<: *b\n", "x.y", "", "")
	f.Fuzz(func(t *testing.T, text, path, container, item string) {
		lines := 1 + strings.Count(text, "\n") + strings.Count(text, "\r") +
			strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029")
		err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)},
			func(d *manifest.Document) string { return place(d, path, container, item) },
			func(r manifest.Record[string]) error {
				if r.Document == nil {
					return nil
				}
				if again := place(r.Document, path, container, item); again != r.Value {
					t.Errorf("%s, then %s", r.Value, again)
				}
				l := r.Document.Locate(path, container, item)
				if l.Line < 1 || l.Line > lines || l.Column < 1 || l.Column > len(text)+1 {
					t.Errorf("place %d:%d in a text of %d lines", l.Line, l.Column, lines)
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
	})
}
