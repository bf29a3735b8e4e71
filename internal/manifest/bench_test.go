package manifest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// deploymentText is a Deployment as teams write them, of about 3 KB.
func deploymentText(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-%d
  namespace: shop
  labels: &labels
    app.kubernetes.io/name: web
    app.kubernetes.io/part-of: shop
    app.kubernetes.io/managed-by: Helm
  annotations:
    deployment.kubernetes.io/revision: "3"
spec:
  replicas: 3
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      app.kubernetes.io/name: web
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 25%%
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app.kubernetes.io/name: web
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "9090"
    spec:
      serviceAccountName: web
      securityContext:
        runAsNonRoot: true
        fsGroup: 2000
`, i)
	for _, list := range []string{"initContainers", "containers"} {
		fmt.Fprintf(&b, `      %s:
      - name: %s-main
        image: registry.example.com/shop/web:1.2.3
        imagePullPolicy: IfNotPresent
        args: ["--port=8080", "--verbose"]
        ports:
        - name: http
          containerPort: 8080
          protocol: TCP
        env:
        - name: LOG_LEVEL
          value: info
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: PASSWORD
          valueFrom:
            secretKeyRef:
              name: web
              key: password
        resources:
          requests: {cpu: 100m, memory: 128Mi}
          limits:
            memory: 256Mi
        # Slow to start.
        readinessProbe:
          httpGet:
            path: /healthz
            port: http
          initialDelaySeconds: 5
          periodSeconds: 10
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities:
            drop: [ALL]
        volumeMounts:
        - name: data
          mountPath: /data
        - name: config
          mountPath: /etc/web
          readOnly: true
`, list, list)
	}
	b.WriteString(`      volumes:
      - name: data
        emptyDir: {}
      - name: config
        configMap:
          name: web-config
`)
	return b.String()
}

func serviceText(i int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata:
  name: web-%d
  namespace: shop
  labels:
    app.kubernetes.io/name: web
spec:
  type: ClusterIP
  ports:
  - name: http
    port: 80
    targetPort: http
    protocol: TCP
  selector:
    app.kubernetes.io/name: web
`, i)
}

// manifestText is document i of the mix: of four, three are Deployments.
func manifestText(i int) string {
	if i%4 == 3 {
		return serviceText(i)
	}
	return deploymentText(i)
}

// stream is a file of n documents that never stands in memory as a whole.
func stream(n int) io.Reader {
	i := 0
	var rest []byte
	return readerFunc(func(p []byte) (int, error) {
		if len(rest) == 0 {
			if i == n {
				return 0, io.EOF
			}
			rest = []byte("---\n" + manifestText(i))
			i++
		}
		k := copy(p, rest)
		rest = rest[k:]
		return k, nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// cpu is the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cost runs f and returns the processor time and the time that it took.
func cost(b *testing.B, f func()) (used, wall time.Duration) {
	runtime.GC()
	start, before := time.Now(), cpu(b)
	f()
	return cpu(b) - before, time.Since(start)
}

// decodeAll decodes documents in the standard way, one after the other.
func decodeAll(b *testing.B, text []byte) {
	for doc := range bytes.SplitSeq(text, []byte("---\n")) {
		if len(doc) == 0 {
			continue
		}
		var into any = &appsv1.Deployment{}
		if bytes.Contains(doc, []byte("kind: Service")) {
			into = &corev1.Service{}
		}
		if err := yaml.Unmarshal(doc, into); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEach compares reading 10,000 manifests in one file with plain decoding
// of the same documents: cpu-ratio in processor time, wall-ratio in time. Located
// is the former with three fields of each document located.
func BenchmarkEach(b *testing.B) {
	const n = 10_000
	text, err := io.ReadAll(stream(n))
	if err != nil {
		b.Fatal(err)
	}
	each := func(judge func(*manifest.Document) int) func() {
		return func() {
			count := 0
			err := manifest.Each(context.Background(),
				manifest.Inputs{Paths: []string{"-"}, Stdin: bytes.NewReader(text)}, judge,
				func(r manifest.Record[int]) error {
					if count++; r.Failure != nil {
						b.Fatal(r.Failure)
					}
					return nil
				})
			if err != nil || count != n {
				b.Fatalf("%d records, error %v", count, err)
			}
		}
	}
	var baseCPU, baseWall, eachCPU, eachWall, locatedCPU time.Duration
	for b.Loop() {
		c, w := cost(b, func() { decodeAll(b, text) })
		baseCPU, baseWall = baseCPU+c, baseWall+w
		c, w = cost(b, each(func(*manifest.Document) int { return 0 }))
		eachCPU, eachWall = eachCPU+c, eachWall+w
		c, _ = cost(b, each(func(d *manifest.Document) int {
			l := 0
			for _, field := range []string{"spec.hostPID", "spec.containers[0].securityContext.privileged", "spec.initContainers[0].image"} {
				l += d.Locate(field, "", "").Line
			}
			return l
		}))
		locatedCPU += c
	}
	b.ReportMetric(float64(eachCPU)/float64(baseCPU), "cpu-ratio")
	b.ReportMetric(float64(locatedCPU)/float64(baseCPU), "located-cpu-ratio")
	b.ReportMetric(float64(eachWall)/float64(baseWall), "wall-ratio")
	b.ReportMetric(float64(len(text))/n, "B/doc")
}

// BenchmarkMemory reports the most heap in use while files of two sizes are read.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var peak uint64
			for b.Loop() {
				peak = max(peak, peakHeap(b, n))
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		})
	}
}

// peakHeap is the most live heap seen while n documents are read: what is in use
// after a collection, so that it does not hang on when the collector runs.
func peakHeap(tb testing.TB, n int) uint64 {
	var peak uint64
	count := 0
	err := manifest.Each(context.Background(), manifest.Inputs{Paths: []string{"-"}, Stdin: stream(n)},
		func(*manifest.Document) int { return 0 },
		func(manifest.Record[int]) error {
			if count++; count%(n/10) == 0 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
			return nil
		})
	if err != nil {
		tb.Fatal(err)
	}
	return peak
}

// BenchmarkMentions looks through manifests that mention nothing of what is looked
// for, as one file and as many: the price that plain manifests pay.
func BenchmarkMentions(b *testing.B) {
	const documents = 10_000
	var all strings.Builder
	dir := b.TempDir()
	for i := range documents {
		text := deploymentText(i)
		all.WriteString("---\n" + text)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	one := filepath.Join(b.TempDir(), "all.yaml")
	if err := os.WriteFile(one, []byte(all.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{"one file": one, "many files": dir} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(all.Len()))
			for b.Loop() {
				found, err := manifest.Mentions(b.Context(), manifest.Inputs{Paths: []string{path}}, []string{"Node", "Namespace", "Inventory"})
				if err != nil || found {
					b.Fatal(found, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*documents), "µs/doc")
		})
	}
}
