package kernel

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func image(os string, labels ...string) *corev1.Node {
	n := nodeOf(labels...)
	n.Status.NodeInfo.OSImage = os
	return n
}

func TestHowToTurnOn(t *testing.T) {
	kind := image("Debian GNU/Linux 12 (bookworm)")
	kind.Spec.ProviderID = "kind://docker/kind/kind-worker"
	for _, test := range []struct {
		node     *corev1.Node
		system   string
		possible bool
		step     string
	}{
		{image("Ubuntu 22.04.5 LTS"), "Ubuntu", true, "/etc/default/grub.d/99-bpf-lsm.cfg"},
		{image("Ubuntu 24.04.2 LTS", "node.kubernetes.io/instance-type=k3s"), "Ubuntu", true, "sudo update-grub"},
		{image("Debian GNU/Linux 12 (bookworm)"), "Debian", true, "sudo update-grub"},
		{image("Red Hat Enterprise Linux 9.4 (Plow)"), "Red Hat Enterprise Linux, Rocky, AlmaLinux, CentOS, Fedora", true, `grubby --update-kernel=ALL --args="lsm=LIST,bpf"`},
		{image("Rocky Linux 9.5 (Blue Onyx)"), "Red Hat Enterprise Linux, Rocky, AlmaLinux, CentOS, Fedora", true, "grubby"},
		{image("AlmaLinux 9.5 (Teal Serval)"), "Red Hat Enterprise Linux, Rocky, AlmaLinux, CentOS, Fedora", true, "grubby"},
		{image("Fedora Linux 43 (Server Edition)"), "Red Hat Enterprise Linux, Rocky, AlmaLinux, CentOS, Fedora", true, "grubby"},
		{image("Oracle Linux Server 9.5"), "Oracle Linux", true, "grubby"},
		{image("Fedora CoreOS 43.20251024.3.0"), "Fedora CoreOS", true, "rpm-ostree kargs"},
		{image("Red Hat Enterprise Linux CoreOS 417.94.202410090854-0"), "OpenShift (RHCOS)", true, "kind: MachineConfig"},
		{image("Red Hat Enterprise Linux CoreOS 9.6", "node.openshift.io/os_id=rhel"), "OpenShift (RHCOS)", true, "kernelArguments"},
		{image("Amazon Linux 2"), "Amazon Linux 2", true, "amazon-linux-extras install kernel-5.15"},
		{image("Amazon Linux 2023.6.20241031", "eks.amazonaws.com/nodegroup=ng"), "Amazon Linux 2023", true, "grubby"},
		{image("Amazon Linux 2", "eks.amazonaws.com/compute-type=fargate"), "EKS Fargate", false, "DaemonSets"},
		{image("Bottlerocket (EKS Auto, Standard) 2025.1.1 (aws-k8s-1.31-standard)", "eks.amazonaws.com/compute-type=auto"), "EKS Auto Mode", false, "node group"},
		{image("Bottlerocket OS 1.52.0 (aws-k8s-1.36-nvidia)"), "Bottlerocket", true, "[settings.boot.kernel-parameters]"},
		{image("Talos (v1.12.6)"), "Talos", true, "extraKernelArgs"},
		{image("Flatcar Container Linux by Kinvolk 4081.2.0 (Oklo)"), "Flatcar", true, "/oem/grub.cfg"},
		{image("SUSE Linux Enterprise Server 15 SP6"), "SUSE Linux Enterprise Server", true, "grub2-mkconfig"},
		{image("SUSE Linux Enterprise Micro 5.5"), "SUSE Linux Micro, MicroOS", true, "transactional-update"},
		{image("SUSE Linux Micro 6.0"), "SUSE Linux Micro, MicroOS", true, "transactional-update"},
		{image("openSUSE Leap 15.6"), "openSUSE", true, "grub2-mkconfig"},
		{image("openSUSE MicroOS"), "SUSE Linux Micro, MicroOS", true, "transactional-update"},
		{image("Container-Optimized OS from Google", "cloud.google.com/gke-os-distribution=cos"), "Container-Optimized OS (GKE)", true, "upgrade the node pool"},
		{image("Ubuntu 22.04.5 LTS", "cloud.google.com/gke-nodepool=p"), "Ubuntu on GKE", false, "COS_CONTAINERD"},
		{image("Ubuntu 22.04.5 LTS", "kubernetes.azure.com/cluster=c"), "AKS", false, "Ubuntu 24.04 or Azure Linux 3"},
		{image("Ubuntu 24.04.3 LTS", "kubernetes.azure.com/cluster=c"), "AKS with Ubuntu 24.04 or Azure Linux 3", true, "--node-image-only"},
		{image("Microsoft Azure Linux 3.0", "kubernetes.azure.com/cluster=c"), "AKS with Ubuntu 24.04 or Azure Linux 3", true, "--node-image-only"},
		{image("CBL-Mariner/Linux"), "Azure Linux", true, "grub2-mkconfig"},
		{image("Buildroot 2023.02.9", "minikube.k8s.io/name=minikube"), "minikube", false, "k3s"},
		{kind, "kind", false, "machine below"},
		{image("Alpine Linux v3.22"), "Linux", true, "CONFIG_BPF_LSM=y"},
	} {
		name := test.node.Status.NodeInfo.OSImage
		got := HowToTurnOn(test.node)
		if got == nil {
			t.Errorf("%s: nothing, want %s", name, test.system)
			continue
		}
		if got.System != test.system || got.Possible != test.possible {
			t.Errorf("%s: %s, possible %t; want %s, %t", name, got.System, got.Possible, test.system, test.possible)
		}
		if !strings.Contains(strings.Join(got.Steps, "\n"), test.step) {
			t.Errorf("%s: no %q in %q", name, test.step, got.Steps)
		}
	}
	if HowToTurnOn(image("")) != nil || HowToTurnOn(nil) != nil {
		t.Error("a way for a system that nobody knows")
	}
}

func TestTurnOnTable(t *testing.T) {
	var systems []string
	for _, way := range TurnOnTable() {
		if slices.Contains(systems, way.System) || way.System == "" {
			t.Errorf("system %q stands twice or has no name", way.System)
		}
		systems = append(systems, way.System)
		if page, err := url.Parse(way.Source); err != nil || page.Scheme != "https" || page.Host == "" {
			t.Errorf("%s: source %q", way.System, way.Source)
		}
		steps := strings.Join(way.Steps, "\n")
		if len(way.Steps) == 0 || slices.Contains(way.Steps, "") {
			t.Errorf("%s: no steps", way.System)
		}
		if strings.Contains(steps, "lsm=LIST,bpf") != strings.Contains(steps, "LIST stands for") && way.System != "Bottlerocket" {
			t.Errorf("%s: LIST is not explained: %s", way.System, steps)
		}
	}
}

func TestTurnOnOldKernel(t *testing.T) {
	n := image("Amazon Linux 2")
	n.Status.NodeInfo.KernelVersion = "5.4.0"
	if got := HowToTurnOn(n).Steps[0]; got != "Update the kernel first: BPF-LSM came to amd64 with 5.7, and 5.4.0 runs." {
		t.Error(got)
	}
	if got := HowToTurnOn(image("Amazon Linux 2")).Steps[0]; strings.Contains(got, "Update the kernel") {
		t.Error(got)
	}
}

func TestTurnOnForAMachine(t *testing.T) {
	m := machine(withoutBPF, Unknown, Unknown)
	m.OSImage = "Rocky Linux 9.5 (Blue Onyx)"
	steps := HowToTurnOnMachine(m).Steps
	if want := `sudo grubby --update-kernel=ALL --args="lsm=` + withoutBPF + `,bpf"`; !slices.Contains(steps, want) || strings.Contains(strings.Join(steps, "\n"), "LIST") {
		t.Errorf("the machine's own list does not stand in %q", steps)
	}
	m.Config = Reading{Value: NotSet}
	if got := HowToTurnOnMachine(m).Steps[0]; got != "Boot a kernel that is built with CONFIG_BPF_LSM=y first: in this one it is not set." {
		t.Error(got)
	}
	for name, m := range map[string]*Machine{
		"a machine of which nothing is known": {},
		"an OS image alone":                   {OSImage: "Rocky Linux 9.5"},
		"bpf is listed and refused":           {OSImage: "Rocky Linux 9.5", LSMs: Reading{Value: withBPF}, Loads: No},
		"bpf works":                           {OSImage: "Rocky Linux 9.5", Loads: Yes, Called: Yes},
		"refused, and nobody knows the list":  {OSImage: "Rocky Linux 9.5", Loads: No},
	} {
		if HowToTurnOnMachine(m) != nil {
			t.Errorf("a way to turn on what is not off: %s", name)
		}
	}
}

// What a node reports ends up in a command that somebody pastes into a shell.
func TestTurnOnTakesNoStrangeNames(t *testing.T) {
	m := machine("capability,$(reboot),a b,yama", Unknown, Unknown)
	m.OSImage = "Rocky Linux 9.5"
	if steps := HowToTurnOnMachine(m).Steps; !slices.Contains(steps, `sudo grubby --update-kernel=ALL --args="lsm=capability,yama,bpf"`) {
		t.Errorf("%q", steps)
	}
}

func TestTurnOnTableIsNotChangedByItsUsers(t *testing.T) {
	before := TurnOnTable()
	n := Node{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, Machine: machine(withoutBPF, Unknown, Unknown)}
	n.Node.Status.NodeInfo.OSImage = "Ubuntu 22.04"
	howToTurnOn(n)
	for i, way := range TurnOnTable() {
		if !slices.Equal(way.Steps, before[i].Steps) {
			t.Errorf("%s changed", way.System)
		}
	}
}
