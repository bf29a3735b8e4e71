package config

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The parts of names in a cluster: a label of DNS, and the same of any length.
const (
	label = `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`
	part  = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
)

// watch checks what only a watch asks about.
func (v *validator) watch(w *Watch) {
	v.outputs(KeyWatchOutput, w.Output, watchFormats())
	for i, out := range w.Outputs() {
		if out.InBucket() {
			v.wrong(KeyWatchOutput, w.Output[i], "a file: what a watch writes has no end, and an object is written as a whole", hint{})
		}
	}
	v.atLeastOne(KeyRotateSize, w.RotateSize)
	v.atLeastOne(KeyRotateKeep, w.RotateKeep)
	for _, address := range w.KubeArmor {
		v.address(KeyKubeArmor, address, "HOST:PORT", false)
	}
	v.word(KeyKubeArmorTLS, w.KubeArmorTLS, tlsModes())
	v.tlsFiles(w)
	if w.Listen != "" {
		v.address(KeyListen, w.Listen, "HOST:PORT or :PORT", true)
	}
	v.word(KeyReports, w.Reports, reportKinds())
	v.word(KeyWebhookSeverity, w.WebhookSeverity, severities())
	v.webhook(w)
	if w.LeaseNamespace != "" && !regexp.MustCompile(`^`+label+`$`).MatchString(w.LeaseNamespace) {
		v.wrong(KeyLeaseNamespace, w.LeaseNamespace, "the name of a namespace", hint{})
	}
	// A name is a DNS subdomain, of which no part is limited but the whole.
	if len(w.LeaseName) > 253 || !regexp.MustCompile(`^`+part+`(\.`+part+`)*$`).MatchString(w.LeaseName) {
		v.wrong(KeyLeaseName, w.LeaseName, "the name of a Lease: lower-case letters, digits, - and .", hint{})
	}
}

func (v *validator) atLeastOne(key string, n int) {
	if n < 1 || n > 1_000_000 {
		v.wrong(key, strconv.Itoa(n), "a number from 1 to 1000000", hint{})
	}
}

// address checks a place to connect to, or with anywhere one to listen at.
func (v *validator) address(key, address, want string, anywhere bool) {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case err == nil && portErr == nil && anywhere && host == "":
	case err != nil, portErr != nil, n == 0 && !anywhere, host == "", harmless(host) != host, strings.ContainsAny(host, " /"):
		v.wrong(key, address, want, hint{})
	}
}

// tlsFiles checks that what belongs together is there together.
func (v *validator) tlsFiles(w *Watch) {
	for _, f := range []struct{ key, path string }{
		{KeyKubeArmorCA, w.KubeArmorCA}, {KeyKubeArmorCert, w.KubeArmorCert}, {KeyKubeArmorKey, w.KubeArmorKey},
	} {
		if f.path == "" {
			continue
		}
		v.path(f.key, f.path)
		if w.KubeArmorTLS == "off" {
			v.all.addf("%s and %s=off: use one of them (%s)", f.key, KeyKubeArmorTLS, v.origins.Of(f.key))
		}
	}
	if (w.KubeArmorCert == "") != (w.KubeArmorKey == "") {
		v.all.addf("%s and %s: one does not go without the other", KeyKubeArmorCert, KeyKubeArmorKey)
	}
}

// webhook checks the URL without repeating it: it may hold a secret.
func (v *validator) webhook(w *Watch) {
	if w.Webhook != "" {
		u, err := url.Parse(w.Webhook)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
			v.all.addf("%s: want a URL of http or https (%s)", KeyWebhook, v.origins.Of(KeyWebhook))
		}
	}
	for _, f := range []struct{ key, path string }{{KeyWebhookSecretFile, w.WebhookSecretFile}, {KeyWebhookCA, w.WebhookCA}} {
		switch {
		case f.path == "":
		case w.Webhook == "":
			v.all.addf("%s without %s: there is nothing to send to (%s)", f.key, KeyWebhook, v.origins.Of(f.key))
		default:
			v.path(f.key, f.path)
		}
	}
}
