package config

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Options are the surroundings from which Load reads.
type Options struct {
	// File is the value of --config. It must exist then, and no other file is
	// looked for.
	File string
	// Flags are the parsed flags of the command. Those that AddFlags did not
	// register are left alone. Nil means none.
	Flags *pflag.FlagSet
	// Environ is the environment as NAME=VALUE, as os.Environ gives it.
	Environ []string
	// WorkDir is where .escape-scanner.yaml is looked for, empty for the current
	// directory.
	WorkDir string
	// UserConfigDir is the user's directory for configuration, as
	// os.UserConfigDir gives it; empty means that there is none.
	UserConfigDir string
	// Open opens a file; nil means os.Open.
	Open func(name string) (fs.File, error)
}

func (o Options) open(name string) (fs.File, error) {
	if o.Open != nil {
		return o.Open(name)
	}
	return os.Open(name)
}

// Load reads the one configuration file that applies, the environment and the
// flags, and returns what is in force and where each value came from. The Config
// is valid when the error is nil; the error names everything that is wrong, one
// line each.
//
// The file is the one of --config, else of ESCAPE_SCANNER_CONFIG, else
// .escape-scanner.yaml in WorkDir, else escape-scanner/config.yaml in
// UserConfigDir; files are not merged. A variable that is set to nothing counts
// as not set; a flag that is set to nothing takes away what the file says.
func Load(o Options) (*Config, Origins, error) {
	var all problems
	env := readEnviron(o.Environ, &all)
	file, err := o.readFile(env.configFile, &all)
	if err != nil {
		all.add(err)
	}
	if err := all.err(); err != nil {
		return nil, Origins{}, err
	}

	s := newStore()
	s.merge(file.layer)
	s.merge(env.layer)
	if err := s.bind(o.Flags); err != nil {
		return nil, Origins{}, err
	}
	s.origins.File = file.path
	cfg := s.config()
	cfg.Exceptions = file.exceptions
	cfg.normalise()
	if err := cfg.Validate(s.origins); err != nil {
		return nil, Origins{}, err
	}
	return cfg, s.origins, nil
}

// layer is what one place says, in the types of the keys.
type layer struct {
	values map[string]any
	from   map[string]Origin
}

func newLayer() layer {
	return layer{values: map[string]any{}, from: map[string]Origin{}}
}

func (l layer) set(key string, value any, from Origin) {
	l.values[key] = value
	l.from[key] = from
}

// store lays the layers over one another. The values are viper's, the origins are
// kept beside them because viper does not tell.
type store struct {
	v       *viper.Viper
	origins Origins
	// err is the first failure of viper itself.
	err error
}

func newStore() *store {
	s := &store{v: viper.New(), origins: Origins{keys: map[string]Origin{}}}
	for _, k := range keys() {
		s.v.SetDefault(k.name, k.fallback)
		s.origins.keys[k.name] = Origin{Kind: OriginDefault}
	}
	s.origins.keys[KeyExceptions] = Origin{Kind: OriginDefault}
	return s
}

// merge lays l over what is there. The file goes first and the environment
// second: to viper both are configuration, since its own way to the environment
// reads that of the process, which a test cannot replace.
func (s *store) merge(l layer) {
	if err := s.v.MergeConfigMap(l.values); err != nil && s.err == nil {
		s.err = fmt.Errorf("configuration: %w", err)
	}
	maps.Copy(s.origins.keys, l.from)
}

// bind lays the flags over all else.
func (s *store) bind(flags *pflag.FlagSet) error {
	for _, k := range keys() {
		f := flagOf(flags, k)
		if f == nil {
			continue
		}
		if err := s.v.BindPFlag(k.name, f); err != nil && s.err == nil {
			s.err = fmt.Errorf("flag --%s: %w", k.flagName(), err)
		}
		if f.Changed {
			s.origins.keys[k.name] = Origin{Kind: OriginFlag, Name: "--" + k.flagName()}
		}
	}
	return s.err
}

func (s *store) config() *Config {
	return &Config{
		Level:           s.v.GetString(KeyLevel),
		PSSVersion:      s.v.GetString(KeyPSSVersion),
		FailOn:          s.v.GetString(KeyFailOn),
		AllowIncomplete: s.v.GetBool(KeyAllowIncomplete),
		Output:          slices.Clone(s.v.GetStringSlice(KeyOutput)),
		Baseline:        s.v.GetString(KeyBaseline),
		Manifests:       slices.Clone(s.v.GetStringSlice(KeyManifests)),
		Color:           s.v.GetString(KeyColor),
		PageSize:        s.v.GetInt(KeyPageSize),
		Parallel:        s.v.GetInt(KeyParallel),
		SARIFCategory:   s.v.GetString(KeySARIFCategory),
		ClusterName:     s.v.GetString(KeyClusterName),
		S3: S3{
			Endpoint: s.v.GetString(KeyS3Endpoint), Region: s.v.GetString(KeyS3Region),
			Addressing: s.v.GetString(KeyS3Addressing), CA: s.v.GetString(KeyS3CA),
		},
		Watch: s.watch(),
	}
}

func (s *store) watch() Watch {
	return Watch{
		Output:            slices.Clone(s.v.GetStringSlice(KeyWatchOutput)),
		RotateSize:        s.v.GetInt(KeyRotateSize),
		RotateKeep:        s.v.GetInt(KeyRotateKeep),
		KubeArmor:         slices.Clone(s.v.GetStringSlice(KeyKubeArmor)),
		KubeArmorTLS:      s.v.GetString(KeyKubeArmorTLS),
		KubeArmorCA:       s.v.GetString(KeyKubeArmorCA),
		KubeArmorCert:     s.v.GetString(KeyKubeArmorCert),
		KubeArmorKey:      s.v.GetString(KeyKubeArmorKey),
		KubeArmorName:     s.v.GetString(KeyKubeArmorServerName),
		Listen:            s.v.GetString(KeyListen),
		Reports:           s.v.GetString(KeyReports),
		Events:            s.v.GetBool(KeyEvents),
		Webhook:           s.v.GetString(KeyWebhook),
		WebhookSecretFile: s.v.GetString(KeyWebhookSecretFile),
		WebhookCA:         s.v.GetString(KeyWebhookCA),
		WebhookSeverity:   s.v.GetString(KeyWebhookSeverity),
		LeaderElect:       s.v.GetBool(KeyLeaderElect),
		LeaseNamespace:    s.v.GetString(KeyLeaseNamespace),
		LeaseName:         s.v.GetString(KeyLeaseName),
	}
}

// names lists the files that are looked for, in their order; of those in one
// group only one may exist.
func (o Options) names() [][]string {
	groups := [][]string{{
		filepath.Join(o.WorkDir, ".escape-scanner.yaml"),
		filepath.Join(o.WorkDir, ".escape-scanner.yml"),
	}}
	if o.UserConfigDir != "" {
		groups = append(groups, []string{
			filepath.Join(o.UserConfigDir, "escape-scanner", "config.yaml"),
			filepath.Join(o.UserConfigDir, "escape-scanner", "config.yml"),
		})
	}
	return groups
}
