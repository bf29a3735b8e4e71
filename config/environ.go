package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// EnvPrefix begins the names of the environment variables.
const EnvPrefix = "ESCAPE_SCANNER_"

// EnvConfig is the variable that stands for --config.
const EnvConfig = EnvPrefix + "CONFIG"

// environment is what the variables say.
type environment struct {
	layer
	configFile string
}

// readEnviron takes the variables of the prefix. Of a variable that is there
// twice the first counts, as with os.Getenv.
func readEnviron(environ []string, all *problems) environment {
	env := environment{layer: newLayer()}
	// The flags' own parsers read the values, so that a list is written alike in
	// both places.
	flags := pflag.NewFlagSet("environment", pflag.ContinueOnError)
	list := keys()
	for i := range list {
		// Of two keys whose flags have one name, both have a variable.
		list[i].flag, list[i].short = "", ""
	}
	addFlags(flags, list, nil)
	service := serviceVariable()
	seen := map[string]bool{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(strings.ToUpper(name), EnvPrefix) || seen[name] || service.MatchString(name) {
			continue
		}
		seen[name] = true
		if name == EnvConfig {
			env.configFile = value
			continue
		}
		k, ok := keyOfEnv(name)
		if !ok {
			all.add(unknownVariable(name))
			continue
		}
		if value == "" {
			continue
		}
		f := flags.Lookup(k.name)
		if err := f.Value.Set(value); err != nil {
			all.addf("%s: want %s, have %s", name, typeName(k.fallback), quoted(value))
			continue
		}
		env.set(k.name, typedValue(k, flags), Origin{Kind: OriginEnvironment, Name: name})
	}
	return env
}

// serviceVariable matches what the kubelet puts into every pod beside a Service
// whose name begins with "escape-scanner": these are not meant for us.
func serviceVariable() *regexp.Regexp {
	return regexp.MustCompile(`^ESCAPE_SCANNER_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
}

func keyOfEnv(name string) (key, bool) {
	for _, k := range keys() {
		if k.env() == name {
			return k, true
		}
	}
	return key{}, false
}

func unknownVariable(name string) error {
	word := name[len(EnvPrefix):]
	if plainWord(word) == KeyExceptions {
		return fmt.Errorf("%s: exceptions can be given in the configuration file only", harmless(name))
	}
	words, variables := []string{"config"}, []string{EnvConfig}
	for _, k := range keys() {
		words, variables = append(words, k.name), append(variables, k.env())
	}
	if i := slices.Index(words, nearest(word, words)); i >= 0 {
		return fmt.Errorf("unknown environment variable %s, did you mean %s?", harmless(name), variables[i])
	}
	return fmt.Errorf("unknown environment variable %s; known are %s", harmless(name), strings.Join(variables, ", "))
}

// typedValue reads the key's value from flags that AddFlags made.
func typedValue(k key, flags *pflag.FlagSet) any {
	var value any
	switch k.fallback.(type) {
	case bool:
		value, _ = flags.GetBool(k.name)
	case int:
		value, _ = flags.GetInt(k.name)
	case []string:
		value, _ = flags.GetStringSlice(k.name)
	default:
		value = flags.Lookup(k.name).Value.String()
	}
	return value
}

// typeName says what a key of this default wants.
func typeName(fallback any) string {
	switch fallback.(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case []string:
		return "a list of strings"
	default:
		return "a string"
	}
}
