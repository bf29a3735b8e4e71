package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// tagged is a version that is a tag, and not so many commits behind one or changed.
var (
	tagged    = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
	described = regexp.MustCompile(`-g[0-9a-f]{7,}(-dirty)?$|-dirty$`)
)

// checkDeployed finds out whether what is deployed of a release runs the image of that
// release: the chart and the manifests name its tag before it is there. What is made of
// a commit without a tag is no release.
func checkDeployed(root, version string) error {
	if !tagged.MatchString(version) || described.MatchString(version) {
		return nil
	}
	var wrong []error
	for _, name := range []struct{ file, key, want string }{
		{"deploy/chart/Chart.yaml", "version", strings.TrimPrefix(version, "v")},
		{"deploy/chart/Chart.yaml", "appVersion", version},
		{"deploy/manifests/kustomization.yaml", "newTag", version},
		{"deploy/manifests/all.yaml", "image", repository + ":" + version},
		{"deploy/manifests/audit.yaml", "image", repository + ":" + version},
		{"deploy/manifests/watch.yaml", "image", repository + ":" + version},
	} {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name.file)))
		if err != nil {
			return err
		}
		values := regexp.MustCompile(`(?m)^[- ]*`+name.key+`: *"?([^"\s]+)"?\s*$`).FindAllSubmatch(text, -1)
		if len(values) == 0 {
			wrong = append(wrong, fmt.Errorf("%s: has no %s", name.file, name.key))
		}
		for _, value := range values {
			if have := string(value[1]); have != name.want {
				wrong = append(wrong, fmt.Errorf("%s: %s is %s, and this release is %s", name.file, name.key, have, name.want))
				break
			}
		}
	}
	return errors.Join(wrong...)
}
