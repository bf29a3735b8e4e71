package config

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// View writes what is in force as a table for people: key, value, and where the
// value came from. Nothing of it can do harm to a terminal.
func View(w io.Writer, cfg *Config, origins Origins) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	// Writing to memory does not fail; Flush would tell.
	row := func(key, value, from string) { _, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", key, value, from) }
	row("KEY", "VALUE", "ORIGIN")
	for _, kv := range cfg.values() {
		if kv.key == KeyWebhook {
			kv.value, _ = shownURL(cfg.Watch.Webhook)
		}
		row(kv.key, inline(kv.value), origins.Of(kv.key).String())
	}
	if len(cfg.Exceptions) == 0 {
		row(KeyExceptions, "[]", origins.Of(KeyExceptions).String())
	}
	for i := range cfg.Exceptions {
		e := &cfg.Exceptions[i]
		from := Origin{Kind: OriginFile, Name: e.File, Line: e.Line}
		row(fmt.Sprintf("%s[%d]", KeyExceptions, i), e.inline(), from.String())
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("configuration: align: %w", err)
	}
	return write(w, b.Bytes())
}

// ViewYAML writes what is in force as a configuration file, which loads to the
// same Config, but for a webhook of whose URL something may be secret: that is a
// comment. It is made of visible characters only.
func ViewYAML(w io.Writer, cfg *Config) error {
	var b bytes.Buffer
	for _, kv := range cfg.values() {
		switch v := kv.value.(type) {
		case []string:
			fmt.Fprintf(&b, "%s:%s\n", kv.key, yamlList(v))
		case string:
			if shown, whole := shownURL(v); kv.key == KeyWebhook && !whole {
				fmt.Fprintf(&b, "# %s: %s\n", kv.key, yamlString(shown))
				continue
			}
			fmt.Fprintf(&b, "%s: %s\n", kv.key, yamlString(v))
		default:
			fmt.Fprintf(&b, "%s: %v\n", kv.key, v)
		}
	}
	if len(cfg.Exceptions) == 0 {
		fmt.Fprintf(&b, "%s: []\n", KeyExceptions)
	} else {
		fmt.Fprintf(&b, "%s:\n", KeyExceptions)
	}
	for i := range cfg.Exceptions {
		b.WriteString(cfg.Exceptions[i].yaml())
	}
	return write(w, b.Bytes())
}

// shownURL is what may be shown of a URL: who has its user, path and query may be all
// that a receiver asks for.
func shownURL(text string) (shown string, whole bool) {
	u, err := url.Parse(text)
	if err != nil {
		return "…", false
	}
	shown = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	if text == shown || text == shown+"/" {
		return text, true
	}
	return shown + "/…", false
}

func write(w io.Writer, data []byte) error {
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("configuration: write: %w", err)
	}
	return nil
}

type keyValue struct {
	key   string
	value any
}

// values lists what is in force, in the order of keys.
func (c *Config) values() []keyValue {
	return []keyValue{
		{KeyLevel, c.Level},
		{KeyPSSVersion, c.PSSVersion},
		{KeyFailOn, c.FailOn},
		{KeyAllowIncomplete, c.AllowIncomplete},
		{KeyOutput, c.Output},
		{KeyBaseline, c.Baseline},
		{KeyManifests, c.Manifests},
		{KeyColor, c.Color},
		{KeyPageSize, c.PageSize},
		{KeySARIFCategory, c.SARIFCategory},
		{KeyClusterName, c.ClusterName},
		{KeyS3Endpoint, c.S3.Endpoint},
		{KeyS3Region, c.S3.Region},
		{KeyS3Addressing, c.S3.Addressing},
		{KeyS3CA, c.S3.CA},
		{KeyParallel, c.Parallel},
		{KeyWatchOutput, c.Watch.Output},
		{KeyRotateSize, c.Watch.RotateSize},
		{KeyRotateKeep, c.Watch.RotateKeep},
		{KeyKubeArmor, c.Watch.KubeArmor},
		{KeyKubeArmorTLS, c.Watch.KubeArmorTLS},
		{KeyKubeArmorCA, c.Watch.KubeArmorCA},
		{KeyKubeArmorCert, c.Watch.KubeArmorCert},
		{KeyKubeArmorKey, c.Watch.KubeArmorKey},
		{KeyKubeArmorServerName, c.Watch.KubeArmorName},
		{KeyListen, c.Watch.Listen},
		{KeyReports, c.Watch.Reports},
		{KeyEvents, c.Watch.Events},
		{KeyWebhook, c.Watch.Webhook},
		{KeyWebhookSecretFile, c.Watch.WebhookSecretFile},
		{KeyWebhookCA, c.Watch.WebhookCA},
		{KeyWebhookSeverity, c.Watch.WebhookSeverity},
		{KeyLeaderElect, c.Watch.LeaderElect},
		{KeyLeaseNamespace, c.Watch.LeaseNamespace},
		{KeyLeaseName, c.Watch.LeaseName},
	}
}

// inline writes a value in one line.
func inline(value any) string {
	switch v := value.(type) {
	case string:
		return harmless(v)
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			if parts[i] = harmless(s); strings.ContainsAny(s, `,[]"`) {
				parts[i] = strconv.Quote(s)
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

func (e *Exception) inline() string {
	var parts []string
	for _, f := range e.fields() {
		if *f.value == "" {
			continue
		}
		v := harmless(*f.value)
		if strings.Contains(v, " ") && v == *f.value {
			v = strconv.Quote(v)
		}
		parts = append(parts, f.name+"="+v)
	}
	if day := e.expires(); day != "" {
		parts = append(parts, keyExpires+"="+day)
	}
	return strings.Join(parts, " ")
}

func (e *Exception) yaml() string {
	var b strings.Builder
	dash := "  - "
	line := func(key, value string) {
		b.WriteString(dash + key + ": " + value + "\n")
		dash = "    "
	}
	for _, f := range e.fields() {
		if *f.value != "" {
			line(f.name, yamlString(*f.value))
		}
	}
	if day := e.expires(); day != "" {
		line(keyExpires, day)
	}
	return b.String()
}

func yamlList(list []string) string {
	if len(list) == 0 {
		return " []"
	}
	var b strings.Builder
	for _, s := range list {
		b.WriteString("\n  - " + yamlString(s))
	}
	return b.String()
}

// yamlString writes s bare where no reader of YAML can take it for anything else,
// and otherwise in double quotes, where Go and YAML share their escapes.
func yamlString(s string) string {
	const letters, more = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789._/-"
	// YAML 1.1 takes some words for true and false.
	words := []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
	if madeOf(s, letters+more) && strings.Contains(letters, s[:1]) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
