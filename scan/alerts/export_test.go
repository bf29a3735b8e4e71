package alerts

import (
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// ProgramTable is a row for each class and step: its programs, whether honest software
// runs them too, and their techniques.
func ProgramTable() [][4]string {
	type row struct {
		class scan.AlertClass
		step  step
	}
	var rows [][4]string
	for _, class := range scan.AlertClasses() {
		seen := map[row]bool{}
		var steps []row
		for _, p := range programs {
			if r := (row{class, p.step}); p.class == class && !seen[r] {
				seen[r] = true
				steps = append(steps, r)
			}
		}
		slices.SortFunc(steps, func(a, b row) int { return strings.Compare(string(a.step), string(b.step)) })
		for _, r := range steps {
			var names []string
			for name, p := range programs {
				if p.class == r.class && p.step == r.step {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			var techniques []string
			dual := "no"
			for _, name := range names {
				for _, id := range programs[name].techniques {
					if !slices.Contains(techniques, id) {
						techniques = append(techniques, id)
					}
				}
				if programs[name].dual {
					dual = "yes"
				}
			}
			rows = append(rows, [4]string{string(r.class), strings.Join(names, ", "), dual, strings.Join(techniques, ", ")})
		}
	}
	return rows
}

// Served are the escape paths that the table of services has a row for.
func Served() []string {
	var paths []string
	for _, s := range services {
		paths = append(paths, s.path)
	}
	return paths
}

// CapabilityTechniques are those of a capability.
func CapabilityTechniques(name string) []string { return capabilityTechniques(name) }
