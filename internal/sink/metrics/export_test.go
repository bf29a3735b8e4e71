package metrics

// Remembered counts the alerts whose count is kept.
func Remembered(m *Metrics) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.evidence.deeds.by)
}
