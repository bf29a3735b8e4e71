package remediate

// WithRecordLimit has records take several ConfigMaps sooner.
func WithRecordLimit(opts PlanOptions, bytes int) PlanOptions {
	opts.recordLimit = bytes
	return opts
}
