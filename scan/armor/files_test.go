package armor_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

func TestFilesOfElements(t *testing.T) {
	t.Parallel()
	inspected := armor.PathsToInspect(nil)
	for _, e := range armor.Elements() {
		files := e.Files()
		if (e.Kind == armor.Capability) != (len(files) == 0) {
			t.Errorf("%s has the files %v", e.Name, files)
		}
		for _, path := range e.Paths {
			if !slices.Contains(files, path) {
				t.Errorf("%s: %s is none of its files", e.Name, path)
			}
		}
		for i, file := range files {
			if slices.Contains(files[:i], file) || !strings.HasPrefix(file, "/") || strings.Contains(file, "busybox") || !slices.Contains(inspected, file) {
				t.Errorf("%s: %s stands twice, is no path, blocks all applets or is not looked at", e.Name, file)
			}
		}
	}
	var applets []string
	for _, e := range armor.Elements() {
		if e.Applet() {
			applets = append(applets, e.Name)
		}
	}
	if !slices.Equal(applets, []string{"chroot", "dpkg", "rpm", "wget"}) {
		t.Errorf("applets: %v", applets)
	}
}
