package config

import "strings"

// The names of the keys: the same in the file, as flags (with "--") and, in
// capitals and with underscores, behind EnvPrefix.
const (
	KeyLevel           = "level"
	KeyPSSVersion      = "pss-version"
	KeyFailOn          = "fail-on"
	KeyAllowIncomplete = "allow-incomplete"
	KeyOutput          = "output"
	KeyBaseline        = "baseline"
	KeyManifests       = "manifests"
	KeyColor           = "color"
	KeyPageSize        = "page-size"
	KeySARIFCategory   = "sarif-category"
	KeyClusterName     = "cluster-name"
	KeyS3Endpoint      = "s3-endpoint"
	KeyS3Region        = "s3-region"
	KeyS3Addressing    = "s3-addressing"
	KeyS3CA            = "s3-ca"
	// KeyParallel is of a fleet.
	KeyParallel = "parallel"

	// Those of a watch.
	KeyWatchOutput         = "watch-output"
	KeyRotateSize          = "rotate-size"
	KeyRotateKeep          = "rotate-keep"
	KeyKubeArmor           = "kubearmor"
	KeyKubeArmorTLS        = "kubearmor-tls"
	KeyKubeArmorCA         = "kubearmor-ca"
	KeyKubeArmorCert       = "kubearmor-cert"
	KeyKubeArmorKey        = "kubearmor-key"
	KeyKubeArmorServerName = "kubearmor-server-name"
	KeyListen              = "listen"
	KeyReports             = "reports"
	KeyEvents              = "events"
	KeyWebhook             = "webhook"
	KeyWebhookSecretFile   = "webhook-secret-file"
	KeyWebhookCA           = "webhook-ca"
	KeyWebhookSeverity     = "webhook-severity"
	KeyLeaderElect         = "leader-elect"
	KeyLeaseNamespace      = "lease-namespace"
	KeyLeaseName           = "lease-name"

	// KeyExceptions has no flag and no variable: an exception needs a reason, and
	// a place that reviewers see.
	KeyExceptions = "exceptions"
)

// Config is what is in force.
type Config struct {
	// Level of the Pod Security Standards: "baseline" or "restricted".
	Level string
	// PSSVersion is "server", "latest" or "v1.N".
	PSSVersion string
	// FailOn is the severity from which on findings fail the run: "critical",
	// "high", "medium", "low", or "none".
	FailOn string
	// AllowIncomplete lets a run succeed that could not read everything.
	AllowIncomplete bool
	// Output holds FORMAT or FORMAT=FILE; Outputs takes it apart.
	Output []string
	// Baseline is the file of an earlier run, empty for none.
	Baseline string
	// Manifests are the paths where the workloads are declared. Paths are relative
	// to the working directory, wherever the configuration file is.
	Manifests []string
	// Color is "auto", "always" or "never".
	Color string
	// PageSize is how many objects are asked of the API server at a time.
	PageSize int
	// SARIFCategory tells several SARIF uploads for one commit apart.
	SARIFCategory string
	// ClusterName is what the cluster is called, empty for the context's name.
	ClusterName string
	// S3 says how outputs reach a bucket.
	S3 S3
	// Parallel is how many clusters of a fleet are scanned at a time.
	Parallel int
	// Watch is what only a watch asks about.
	Watch Watch
	// Exceptions are the findings that are accepted.
	Exceptions []Exception
}

// Watch is what is in force for a watch. Paths are relative to the working directory.
type Watch struct {
	// Output holds FORMAT or FORMAT=FILE with the formats text and jsonl; Outputs takes
	// it apart. Files are rotated when they have RotateSize MiB, and RotateKeep old ones
	// stay.
	Output                 []string
	RotateSize, RotateKeep int
	// KubeArmor are addresses (HOST:PORT) of relays; none means that the relay is looked
	// for in the cluster. KubeArmorTLS is "auto", "on" or "off"; the files are of
	// certificates in PEM, empty for those of the cluster.
	KubeArmor                                               []string
	KubeArmorTLS                                            string
	KubeArmorCA, KubeArmorCert, KubeArmorKey, KubeArmorName string
	// Listen is the address of /metrics, /healthz and /readyz, empty for none.
	Listen string
	// Reports is "off", "auto", "openreports" or "policyreport".
	Reports string
	// Events is true where Kubernetes Events are written.
	Events bool
	// Webhook is a URL, empty for none; WebhookSecretFile holds the key that signs,
	// WebhookCA the certificates that its own is checked with, the system's where it is
	// empty, and WebhookSeverity is the least severity that is sent.
	Webhook, WebhookSecretFile, WebhookCA, WebhookSeverity string
	// LeaderElect makes several replicas choose one that writes, by the Lease LeaseName in
	// LeaseNamespace.
	LeaderElect               bool
	LeaseNamespace, LeaseName string
}

// Outputs takes Output apart, as Config.Outputs does.
func (w *Watch) Outputs() []Output { return takeApart(w.Output) }

// Output is one output that was asked for.
type Output struct {
	// Format is one of "table", "json", "jsonl", "sarif", "html".
	Format string
	// File is where it goes, empty for standard output. Object takes it apart where it is
	// an object in a bucket.
	File string
}

// Default returns the configuration of a user who said nothing.
func Default() *Config {
	return newStore().config()
}

// Outputs takes Output apart. It is meant for a valid Config: what the formats
// and files may be is checked by Validate.
func (c *Config) Outputs() []Output { return takeApart(c.Output) }

func takeApart(output []string) []Output {
	outs := make([]Output, 0, len(output))
	for _, s := range output {
		format, file, _ := strings.Cut(s, "=")
		if file == "-" {
			file = ""
		}
		outs = append(outs, Output{Format: format, File: file})
	}
	return outs
}

// normalise writes words from closed lists in lower case: "HIGH" is no mystery.
func (c *Config) normalise() {
	words := []*string{&c.Level, &c.PSSVersion, &c.FailOn, &c.Color, &c.S3.Addressing, &c.Watch.KubeArmorTLS, &c.Watch.Reports, &c.Watch.WebhookSeverity}
	for _, word := range words {
		*word = strings.ToLower(*word)
	}
	for _, output := range [][]string{c.Output, c.Watch.Output} {
		for i, s := range output {
			format, file, found := strings.Cut(s, "=")
			if format = strings.ToLower(format); found {
				format += "=" + file
			}
			output[i] = format
		}
	}
}
