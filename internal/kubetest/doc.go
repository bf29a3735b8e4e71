// Package kubetest gives tests a real kube-apiserver and etcd, and a proxy that
// makes them misbehave.
//
// A package whose tests talk to Kubernetes starts one control plane for all of
// them:
//
//	var cluster = kubetest.NewShared()
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }
//
//	func TestReads(t *testing.T) {
//		server := cluster.Server(t)
//		namespace := server.Namespace(t, nil)
//		...
//	}
//
// There is no kubelet, no scheduler and no controller: pods stay pending, a
// Deployment makes no pods, and nothing collects garbage. RBAC and every
// admission plugin that is on by default are in force, except ServiceAccount,
// which would wait for service accounts that nobody makes.
//
// InstallCRDs installs the kinds of KubeArmor and Kyverno, without what acts on
// them. Apply makes a folder of manifests real, status and all. A Kubelet answers
// what the API server asks of one: exec and logs. Kill, Restart and Compact are the
// API server's bad days.
package kubetest
