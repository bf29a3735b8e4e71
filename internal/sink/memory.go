package sink

// Memory remembers the latest things that were put there, by their names. The one that was
// put there first is forgotten first.
type Memory[K comparable, V any] struct {
	most  int
	by    map[K]V
	order []K
}

// NewMemory is a memory of so many things at most.
func NewMemory[K comparable, V any](most int) *Memory[K, V] {
	return &Memory[K, V]{most: most, by: map[K]V{}}
}

// Get is what was put there last under a name.
func (m *Memory[K, V]) Get(name K) (thing V, known bool) {
	thing, known = m.by[name]
	return thing, known
}

// Put remembers a thing. One that is known keeps its place in the order.
func (m *Memory[K, V]) Put(name K, thing V) {
	if _, known := m.by[name]; !known {
		if len(m.order) == m.most {
			delete(m.by, m.order[0])
			m.order = m.order[1:]
		}
		m.order = append(m.order, name)
	}
	m.by[name] = thing
}
