package node

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// readConfig reads two options of the configuration that the running kernel was built
// with, from the first of the places where distributions put it.
func readConfig(h *host, release string) (bpfLSM, lsm kernel.Reading) {
	files := []string{"/proc/config.gz"}
	if release != "" && !strings.Contains(release, "/") {
		files = append(files, "/boot/config-"+release, "/lib/modules/"+release+"/config", "/usr/lib/modules/"+release+"/config", "/usr/lib/kernel/config-"+release)
	}
	var errs []error
	for _, file := range files {
		data, err := h.read(file, maxConfig)
		if err == nil && strings.HasSuffix(file, ".gz") {
			data, err = unzip(file, data)
		}
		if err == nil {
			return option(file, data, "CONFIG_BPF_LSM"), option(file, data, "CONFIG_LSM")
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	err := fmt.Errorf("none of %s is there", strings.Join(files, ", "))
	if len(errs) > 0 {
		err = errors.Join(errs...)
	}
	r := kernel.Reading{Error: strings.ReplaceAll(err.Error(), "\n", "; ")}
	return r, r
}

func unzip(file string, data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(plain) > maxConfig {
		return nil, fmt.Errorf("%s: larger than %d KiB", file, maxConfig>>10)
	}
	return plain, nil
}

// option is the value of an option in a kernel's configuration. What is not in there
// is not set, provided that it is a configuration at all.
func option(file string, config []byte, name string) kernel.Reading {
	r := kernel.Reading{Source: file, Value: kernel.NotSet}
	isConfig := false
	for line := range bytes.Lines(config) {
		line = bytes.TrimSpace(line)
		isConfig = isConfig || bytes.HasPrefix(line, []byte("CONFIG_")) || bytes.HasPrefix(line, []byte("# CONFIG_"))
		if value, ok := bytes.CutPrefix(line, []byte(name+"=")); ok {
			r.Value = strings.Trim(string(value), `"`)
			return r
		}
	}
	if !isConfig {
		return kernel.Reading{Source: file, Error: file + ": not a kernel configuration"}
	}
	return r
}
