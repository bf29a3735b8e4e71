// Package alerts makes something of what KubeArmor reports: what was done, whether it
// is an incident, and how often. It is pure; what is known of a pod is handed to it.
// docs/alerts.md says the same in a table for people.
package alerts
