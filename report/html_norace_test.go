//go:build !race

package report

const browsedWorkloads = largeWorkloads
