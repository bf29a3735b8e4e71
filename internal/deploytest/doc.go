// Package deploytest holds the tests of what deploy/ ships: it is applied to a real API
// server, and the program is run as its pods would run it, with their ServiceAccounts,
// their arguments and their volumes, and nothing else.
//
// There is no kubelet and there are no controllers. A pod of each template is made by
// the tests and admitted by the server; what the server made of it is then run in a
// mount namespace, with the token, the volumes and the read-only root that a node would
// give it. Where no such namespace can be had the program is run as it is, with a
// kubeconfig that has only the token.
package deploytest
