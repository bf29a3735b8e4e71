package scan

import (
	"iter"
	"maps"
	"reflect"
	"slices"
)

// prepare finds, several at once, the answers that groups of pods will ask for.
func (l *layering) prepare(groups iter.Seq[*group], judged map[Digest]*Judgement) {
	wanted := map[layerKey]*nodeState{}
	for g := range groups {
		for at := range g.places() {
			k := layerKeyOf(judged[g.key.digest], at.cover.stance, at.node, g)
			if l.cache[k] == nil {
				wanted[k] = at.node
			}
		}
	}
	l.fill(wanted)
}

// prepareBoth is prepare for who does not know how many containers run on the nodes.
func (l *layering) prepareBoth(groups iter.Seq[*group], judged map[Digest]*Judgement) {
	wanted := map[layerKey]*nodeState{}
	for g := range groups {
		for at := range g.places() {
			quiet, crowded := bothKeys(judged[g.key.digest], at.cover.stance, at.node, g)
			wanted[quiet], wanted[crowded] = at.node, at.node
		}
	}
	l.fill(wanted)
	for key := range wanted {
		// Mostly it does not matter: then one answer is enough.
		crowded := key
		if crowded.crowded = true; crowded != key && reflect.DeepEqual(l.cache[key], l.cache[crowded]) {
			l.cache[crowded] = l.cache[key]
		}
	}
}

// bothKeys are those of the answers where few containers run on the node, and where more
// run than are enforced.
func bothKeys(j *Judgement, st *stance, n *nodeState, looked *group) (quiet, crowded layerKey) {
	quiet = layerKeyOf(j, st, n, looked)
	crowded = quiet
	quiet.crowded, crowded.crowded = false, true
	return quiet, crowded
}

func (l *layering) fill(wanted map[layerKey]*nodeState) {
	keys := slices.Collect(maps.Keys(wanted))
	made := make([]*Layers, len(keys))
	parallel(len(keys), func(i int) { made[i] = l.make(keys[i], wanted[keys[i]]) })
	for i, key := range keys {
		l.cache[key] = made[i]
	}
}
