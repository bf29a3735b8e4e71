package config

import "github.com/spf13/pflag"

// AddWatchFlags registers the flags of all keys that only a watch has.
func AddWatchFlags(fs *pflag.FlagSet) { addFlags(fs, watchKeys(), nil) }
