package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// key is one key that has a flag and a variable.
type key struct {
	name, short, usage string
	// fallback is the default; its type is the type of the key.
	fallback any
	// flag is the name of the flag where that is another.
	flag string
}

func (k key) flagName() string { return cmp.Or(k.flag, k.name) }

func keys() []key { return slices.Concat(scanKeys(), fleetKeys(), watchKeys()) }

func scanKeys() []key {
	return []key{
		{name: KeyLevel, usage: "judge pods by this `LEVEL` of the Pod Security Standards: " + strings.Join(levels(), ", "), fallback: "baseline"},
		{name: KeyPSSVersion, usage: "`VERSION` of the Pod Security Standards: server (that of the API server), latest, or v1.N", fallback: "server"},
		{name: KeyFailOn, usage: "exit with 1 on findings of this `SEVERITY` and above: " + strings.Join(severities(), ", "), fallback: "high"},
		{name: KeyAllowIncomplete, usage: "succeed even when something could not be read (otherwise exit with 3)", fallback: false},
		{name: KeyOutput, short: "o", usage: "`FORMAT[=FILE]` to write: " + strings.Join(formats(), ", ") + "; FILE may be s3://BUCKET/KEY; may be repeated, one of them to standard output", fallback: []string{"table"}},
		{name: KeyBaseline, usage: "report and gate only what is not in this `FILE`, the json or jsonl of an earlier run", fallback: ""},
		{name: KeyManifests, usage: "`PATHS` of the manifests that declare the live workloads, so that findings name the line to edit", fallback: []string{}},
		{name: KeyColor, usage: "colour the output: `WHEN` is " + strings.Join(colors(), ", "), fallback: "auto"},
		{name: KeyPageSize, usage: "ask the API server for `N` objects at a time, 1 to 10000", fallback: 500},
		{name: KeySARIFCategory, usage: "`CATEGORY` of the SARIF run, to tell several uploads for one commit apart", fallback: "escape-scanner"},
		{name: KeyClusterName, usage: "`NAME` of the cluster in all that is written, also behind the category of SARIF (default: the context, or the server's address)", fallback: ""},
		{name: KeyS3Endpoint, usage: "`URL` of the S3 service (default: Amazon's for the region); http:// sends without encryption", fallback: ""},
		{name: KeyS3Region, usage: "`REGION` of the bucket (default: AWS_REGION, else the service is asked)", fallback: ""},
		{name: KeyS3Addressing, usage: "how the bucket is named to the service: `MODE` is " + strings.Join(addressings(), ", ") + "; auto is by host at Amazon, else by path", fallback: "auto"},
		{name: KeyS3CA, usage: "`FILE` of the certificates that the service's is checked with (PEM; default: the system's)", fallback: ""},
	}
}

func fleetKeys() []key {
	return []key{
		{name: KeyParallel, usage: "scan `N` clusters of a fleet at a time, 1 to 100", fallback: 4},
	}
}

func watchKeys() []key {
	return []key{
		{name: KeyWatchOutput, flag: "output", short: "o", usage: "`FORMAT[=FILE]` to write: " + strings.Join(watchFormats(), ", ") + "; may be repeated, one of them to standard output", fallback: []string{"text"}},
		{name: KeyRotateSize, usage: "begin a new output file after `MIB`", fallback: 100},
		{name: KeyRotateKeep, usage: "keep `N` old output files", fallback: 5},
		{name: KeyKubeArmor, usage: "listen to KubeArmor at these `ADDRESSES` (HOST:PORT; default: its relay, by its Service or through the API server)", fallback: []string{}},
		{name: KeyKubeArmorTLS, usage: "TLS to KubeArmor: `MODE` is auto (when its secrets are there), on, off", fallback: "auto"},
		{name: KeyKubeArmorCA, usage: "`FILE` of the certificates that KubeArmor's is checked with (PEM)", fallback: ""},
		{name: KeyKubeArmorCert, usage: "`FILE` of the certificate to show to KubeArmor (PEM)", fallback: ""},
		{name: KeyKubeArmorKey, usage: "`FILE` of its key (PEM)", fallback: ""},
		{name: KeyKubeArmorServerName, usage: "`NAME` in KubeArmor's certificate, where it is not the address", fallback: ""},
		{name: KeyListen, usage: "serve /metrics, /healthz and /readyz at this `ADDRESS`, as in :8080", fallback: ""},
		{name: KeyReports, usage: "keep a report for each workload in the cluster: `KIND` is " + strings.Join(reportKinds(), ", "), fallback: "off"},
		{name: KeyEvents, usage: "write Kubernetes Events on the workloads", fallback: false},
		{name: KeyWebhook, usage: "send what happens to this `URL`", fallback: ""},
		{name: KeyWebhookSecretFile, usage: "`FILE` of the secret that signs what is sent", fallback: ""},
		{name: KeyWebhookCA, usage: "`FILE` of the certificates that the webhook's is checked with (PEM; default: the system's)", fallback: ""},
		{name: KeyWebhookSeverity, usage: "send what has this `SEVERITY` and above", fallback: "high"},
		{name: KeyLeaderElect, usage: "of several replicas let one write, chosen by a Lease", fallback: false},
		{name: KeyLeaseNamespace, usage: "`NAMESPACE` of the Lease (default: the pod's own)", fallback: ""},
		{name: KeyLeaseName, usage: "`NAME` of the Lease: replicas of one name choose one among them", fallback: "escape-scanner-watch"},
	}
}

func levels() []string       { return []string{"baseline", "restricted"} }
func severities() []string   { return []string{"critical", "high", "medium", "low", "none"} }
func formats() []string      { return []string{"table", "json", "jsonl", "sarif", "html"} }
func watchFormats() []string { return []string{"text", "jsonl"} }
func reportKinds() []string  { return []string{"off", "auto", "openreports", "policyreport"} }
func tlsModes() []string     { return []string{"auto", "on", "off"} }
func colors() []string       { return []string{"auto", "always", "never"} }
func addressings() []string  { return []string{"auto", "path", "host"} }

// Words lists the words that the key of this name takes, for completion; nil where
// it takes others.
func Words(name string) []string {
	switch name {
	case KeyLevel:
		return levels()
	case KeyPSSVersion:
		return []string{"server", "latest"}
	case KeyFailOn:
		return severities()
	case KeyOutput:
		return formats()
	case KeyColor:
		return colors()
	case KeyS3Addressing:
		return addressings()
	case KeyWatchOutput:
		return watchFormats()
	case KeyReports:
		return reportKinds()
	case KeyKubeArmorTLS:
		return tlsModes()
	case KeyWebhookSeverity:
		return severities()
	}
	return nil
}

// keyNames lists every key, in the order in which they are shown.
func keyNames() []string {
	var names []string
	for _, k := range keys() {
		names = append(names, k.name)
	}
	return append(names, KeyExceptions)
}

// env is the name of the key's environment variable.
func (k key) env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.name, "-", "_"))
}

// ours marks the flags that AddFlags made: a command may have a flag of its own
// under the name of a key.
const ours = "escape-scanner/config"

// AddFlags registers a flag for every key that can have one and is not of a watch
// or a fleet alone, but not for those named in without. Lists take commas and repetition, as
// kubectl's do.
func AddFlags(fs *pflag.FlagSet, without ...string) { addFlags(fs, scanKeys(), without) }

// AddFlagsOf registers the flags of the keys that are named, and no others.
func AddFlagsOf(fs *pflag.FlagSet, names ...string) {
	var list []key
	for _, k := range keys() {
		if slices.Contains(names, k.name) {
			list = append(list, k)
		}
	}
	addFlags(fs, list, nil)
}

func addFlags(fs *pflag.FlagSet, list []key, without []string) {
	for _, k := range list {
		if slices.Contains(without, k.name) {
			continue
		}
		name := k.flagName()
		switch d := k.fallback.(type) {
		case string:
			fs.StringP(name, k.short, d, k.usage)
		case bool:
			fs.BoolP(name, k.short, d, k.usage)
		case int:
			fs.IntP(name, k.short, d, k.usage)
		case []string:
			fs.StringSliceP(name, k.short, d, k.usage)
		}
		fs.Lookup(name).Annotations = map[string][]string{ours: {k.name}}
	}
}

// flagOf finds the flag that AddFlags made for the key.
func flagOf(fs *pflag.FlagSet, k key) *pflag.Flag {
	if fs == nil {
		return nil
	}
	f := fs.Lookup(k.flagName())
	if f == nil || !slices.Contains(f.Annotations[ours], k.name) {
		return nil
	}
	return f
}
