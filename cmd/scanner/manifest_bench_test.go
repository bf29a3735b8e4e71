package main

import (
	"bytes"
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
	"sigs.k8s.io/yaml"
)

// benchDocument is document i of a mix of Deployments of some 2 KB as teams write
// them; one in four has ways out.
func benchDocument(i int) string {
	volume, security := "emptyDir: {}", "allowPrivilegeEscalation: false\n          capabilities: {drop: [ALL]}"
	if i%4 == 0 {
		volume, security = "hostPath: {path: /var/run/docker.sock}", "privileged: true"
	}
	var containers strings.Builder
	for _, name := range []string{"web", "proxy"} {
		fmt.Fprintf(&containers, `      - name: %s
        image: registry.example.com/shop/%s:1.%d
        args: ["--port=8080", "--verbose"]
        ports:
        - name: http
          containerPort: 8080
        env:
        - name: LOG_LEVEL
          value: info
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        - name: PASSWORD
          valueFrom:
            secretKeyRef: {name: web, key: password}
        resources:
          requests: {cpu: 100m, memory: 128Mi}
          limits:
            memory: 256Mi
        readinessProbe:
          httpGet:
            path: /healthz
            port: http
          initialDelaySeconds: 5
        securityContext:
          %s
        volumeMounts:
        - name: data
          mountPath: /data
`, name, name, i, security)
	}
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-%d
  namespace: shop
  labels:
    app.kubernetes.io/name: web
    app.kubernetes.io/part-of: shop
    app.kubernetes.io/managed-by: Helm
spec:
  replicas: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: web
  template:
    metadata:
      labels:
        app.kubernetes.io/name: web
    spec:
      serviceAccountName: web
      securityContext:
        runAsNonRoot: true
      containers:
%s      volumes:
      - name: data
        %s
`, i, containers.String(), volume)
}

// cpuTime is what the process has used of the processors so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScanManifests scans 10,000 manifests in one file with the whole command
// and reports its processor time as a ratio to that of decoding the same documents
// into their types in the usual way.
func BenchmarkScanManifests(b *testing.B) {
	const documents = 10_000
	var file bytes.Buffer
	texts := make([][]byte, documents)
	for i := range texts {
		texts[i] = []byte(benchDocument(i))
		file.WriteString("---\n")
		file.Write(texts[i])
	}
	path := filepath.Join(b.TempDir(), "all.yaml")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(file.Len()))
	for _, format := range []string{"jsonl", "table", "sarif"} {
		b.Run(format, func(b *testing.B) {
			var decode, scan, wall time.Duration
			for b.Loop() {
				runtime.GC()
				before := cpuTime(b)
				for _, text := range texts {
					var d appsv1.Deployment
					if err := yaml.Unmarshal(text, &d); err != nil {
						b.Fatal(err)
					}
				}
				decode += cpuTime(b) - before
				runtime.GC()
				before = cpuTime(b)
				began := time.Now()
				args := []string{"scan", "-f", path, "--fail-on", "none", "-o", format}
				if code := run(b.Context(), args, nil, io.Discard, os.Stderr, benchDeps()); code != exitOK {
					b.Fatalf("exit code %d", code)
				}
				wall += time.Since(began)
				scan += cpuTime(b) - before
			}
			b.ReportMetric(float64(scan)/float64(decode), "cpu-ratio")
			b.ReportMetric(float64(scan)/float64(wall), "cores")
			b.ReportMetric(float64(scan.Microseconds())/float64(b.N*documents), "cpu-µs/doc")
		})
	}
}

func benchDeps() deps {
	return deps{
		now:           time.Now,
		terminalWidth: func(io.Writer) (int, bool) { return 0, false },
		build:         build{version: "bench"},
	}
}
