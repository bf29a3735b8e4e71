// Package scan is the domain of escape-scanner: it tells, for every workload,
// which ways out to the host its pods leave open.
//
// Rules are pure functions over what was read. They know no cluster, no file
// and no terminal: a Source or a stream of Documents brings values in, and
// everything learned leaves as one stream of Events to a Handler.
package scan

// RuleSetVersion is the version of the table of rules. It changes when a rule is
// added or judges otherwise.
const RuleSetVersion = "1"
