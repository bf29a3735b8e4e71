package scan

import (
	"cmp"
	"fmt"
)

// pairAlike says which of the findings with one fingerprint are the same in both runs:
// first those that nothing is other about, then those of the same place, then those that
// weigh the same, and at last in their order.
func pairAlike(before, after []*Finding) (both [][2]*Finding, gone, come []*Finding) {
	if len(before) == 1 && len(after) == 1 {
		return [][2]*Finding{{before[0], after[0]}}, nil, nil
	}
	for _, like := range []func(*Finding) string{
		func(f *Finding) string { return weightOf(f) + placeOf(f) + lineOf(f) },
		func(f *Finding) string { return placeOf(f) + lineOf(f) },
		func(f *Finding) string { return weightOf(f) + placeOf(f) },
		placeOf,
		weightOf,
		func(*Finding) string { return "" },
	} {
		if len(before) == 0 || len(after) == 0 {
			break
		}
		there := map[string][]*Finding{}
		for _, f := range before {
			k := like(f)
			there[k] = append(there[k], f)
		}
		paired := map[*Finding]int{}
		var rest []*Finding
		for _, f := range after {
			k := like(f)
			list := there[k]
			if len(list) == 0 {
				rest = append(rest, f)
				continue
			}
			both, there[k] = append(both, [2]*Finding{list[0], f}), list[1:]
			paired[list[0]]++
		}
		var left []*Finding
		for _, f := range before {
			if paired[f] == 0 {
				left = append(left, f)
				continue
			}
			paired[f]--
		}
		before, after = left, rest
	}
	return both, before, after
}

func weightOf(f *Finding) string { return fmt.Sprintf("%s %t ", f.Severity, f.Excepted != nil) }

func placeOf(f *Finding) string {
	return fmt.Sprintf("%q %q ", f.Field, cmp.Or(f.Location, &Location{}).File)
}

func lineOf(f *Finding) string {
	at := cmp.Or(f.Location, &Location{})
	return fmt.Sprintf("%d:%d", at.Line, at.Column)
}
