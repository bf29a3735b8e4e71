package kernel

import "strings"

// The steps that several systems share.
const (
	stepReboot = "Drain the node and reboot it; then bpf must stand in " + fileLSMs + "."
	stepGrubby = `sudo grubby --update-kernel=ALL --args="lsm=LIST,bpf"`
	stepGrubD  = `echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX lsm=LIST,bpf"' | sudo tee /etc/default/grub.d/99-bpf-lsm.cfg`
	stepKargs  = `sudo rpm-ostree kargs --append-if-missing="lsm=LIST,bpf"`
	stepConfig = "Append lsm=LIST,bpf to GRUB_CMDLINE_LINUX in /etc/default/grub."
	stepMkconf = "sudo grub2-mkconfig -o /boot/grub2/grub.cfg"

	pageKubeArmorFAQ    = "https://github.com/kubearmor/KubeArmor/blob/main/getting-started/FAQ.md"
	pageKubeArmorMatrix = "https://github.com/kubearmor/KubeArmor/blob/main/getting-started/support_matrix.md"
	pageKernel          = "https://www.kernel.org/doc/html/latest/admin-guide/kernel-parameters.html"
)

func always(a Answer) func(node) Answer { return func(node) Answer { return a } }

// way is a way that is possible, with the words on what LIST is in front where the
// steps use it.
func way(name, source string, steps ...string) TurnOn {
	if strings.Contains(strings.Join(steps, "\n"), listed) {
		steps = append([]string{whatIsListed()}, steps...)
	}
	return TurnOn{System: name, Possible: true, Steps: steps, Source: source}
}

func noWay(name, source string, steps ...string) TurnOn {
	return TurnOn{System: name, Steps: steps, Source: source}
}

func windowsTurnOn() TurnOn {
	return noWay("Windows", pageKubeArmorMatrix,
		"Windows has no Linux security modules, and KubeArmor does not run there: keep workloads that need this layer on Linux nodes.")
}

// systems are the kinds of nodes, offerings before the systems that they are made of.
func systems() []system {
	var all []system
	all = append(all, offerings()...)
	all = append(all, imageSystems()...)
	all = append(all, distributions()...)
	return append(all, system{
		is: func(n node) bool { return n.image != "" },
		TurnOn: way("Linux", pageKernel,
			"The kernel must be built with CONFIG_BPF_LSM=y (zcat /proc/config.gz, or /boot/config-$(uname -r)).",
			"Append lsm=LIST,bpf to the kernel's command line, in the way of the node's boot loader.", stepReboot),
	})
}

// offerings are where somebody else runs the nodes, or where they are no machines.
func offerings() []system {
	return []system{
		{
			is: func(n node) bool { return strings.HasPrefix(n.provider, "kind://") },
			TurnOn: noWay("kind", pageKubeArmorMatrix,
				"A node of kind is a container: its kernel is that of the machine below, and KubeArmor does not support kind.",
				"Use a cluster whose nodes are machines, as k3s or kubeadm make it."),
		},
		{
			is: func(n node) bool { return n.marked("minikube.k8s.io/") },
			TurnOn: noWay("minikube", pageKubeArmorMatrix,
				"With the docker and podman drivers a node is a container with the kernel of the machine below: switch BPF-LSM on there.",
				"With a virtual machine the kernel and what it boots with belong to minikube's image: use another cluster, k3s for instance."),
		},
		{
			is: func(n node) bool { return n.label("eks.amazonaws.com/compute-type", "fargate") },
			TurnOn: noWay("EKS Fargate", "https://docs.aws.amazon.com/eks/latest/userguide/fargate.html",
				"Fargate runs no DaemonSets, so no KubeArmor agent: run workloads that need this layer in a node group."),
		},
		{
			is: func(n node) bool { return n.label("eks.amazonaws.com/compute-type", "auto") },
			on: always(Yes),
			TurnOn: noWay("EKS Auto Mode", "https://docs.aws.amazon.com/whitepapers/latest/security-overview-amazon-eks-auto-mode/eks-auto-mode-data-plane.html",
				"AWS runs these nodes, and nobody changes what they boot with. They are Bottlerocket, which has BPF-LSM on by default: replace nodes that are old.",
				"Else use a node group of your own with Bottlerocket or Amazon Linux 2023."),
		},
		{
			is: func(n node) bool {
				return n.label("cloud.google.com/gke-os-distribution", "cos") || n.runs("container-optimized os")
			},
			on: always(Yes),
			TurnOn: way("Container-Optimized OS (GKE)", "https://github.com/kubearmor/KubeArmor/wiki/v0.5-Release-Blog",
				"What the nodes boot with cannot be changed. Current images have BPF-LSM on: upgrade the node pool to a current version (gcloud container clusters upgrade CLUSTER --node-pool=POOL)."),
		},
		{
			is: func(n node) bool { return n.marked("cloud.google.com/gke-") && n.runs("ubuntu") },
			TurnOn: noWay("Ubuntu on GKE", "https://cloud.google.com/kubernetes-engine/docs/how-to/node-system-config",
				"GKE lets the kubelet's settings and sysctls be changed, not what the kernel boots with.",
				"Move the workloads to a node pool with Container-Optimized OS (--image-type=COS_CONTAINERD), which has BPF-LSM on."),
		},
		{
			is: func(n node) bool {
				return n.marked("kubernetes.azure.com/") && (n.runs("ubuntu 24.04") || n.runs("azure linux 3"))
			},
			TurnOn: way("AKS with Ubuntu 24.04 or Azure Linux 3", "https://github.com/Azure/AgentBaker/pull/6555",
				"Node images since the middle of 2025 have BPF-LSM on: az aks nodepool upgrade --node-image-only --resource-group GROUP --cluster-name CLUSTER --name POOL"),
		},
		{
			is: func(n node) bool { return n.marked("kubernetes.azure.com/") },
			on: func(n node) Answer {
				if n.runs("ubuntu 22.04") {
					return No
				}
				return Unknown
			},
			TurnOn: noWay("AKS", "https://github.com/Azure/AKS/issues/3574",
				"AKS does not let what the kernel boots with be changed, and this node image has BPF-LSM off.",
				"Move the workloads to a node pool with Ubuntu 24.04 or Azure Linux 3, whose images have it on."),
		},
	}
}

// imageSystems are systems that are configured as a whole and not by logging in.
func imageSystems() []system {
	return []system{
		{
			is: func(n node) bool { return n.runs("bottlerocket") },
			on: always(Yes),
			TurnOn: way("Bottlerocket", "https://bottlerocket.dev/en/os/1.45.x/api/settings/boot",
				"BPF-LSM is on by default with kernel 5.10 and later: update nodes of older variants.",
				"Where it was switched off, put this in the node's user data:\n[settings.boot]\nreboot-to-reconcile = true\n[settings.boot.kernel-parameters]\n\"lsm\" = [\"LIST,bpf\"]",
				stepReboot),
		},
		{
			is: func(n node) bool { return n.runs("talos") },
			on: always(Yes),
			TurnOn: way("Talos", "https://docs.siderolabs.com/talos/v1.12/platform-specific-installations/bare-metal-platforms/bootloader",
				"BPF-LSM is on by default since Talos 1.9: upgrade older nodes. Where it was switched off:",
				"Booted by GRUB: set this in the machine configuration, then talosctl upgrade:\nmachine:\n  install:\n    extraKernelArgs:\n      - lsm=LIST,bpf",
				"Booted by systemd-boot (new installations on UEFI since 1.10): that field is ignored. Make an installer image whose schematic has it, then talosctl upgrade --image IMAGE:\ncustomization:\n  extraKernelArgs:\n    - lsm=LIST,bpf",
				"Then bpf must stand in talosctl read "+fileLSMs+"."),
		},
		{
			is: func(n node) bool {
				return n.marked("node.openshift.io/os_id") || n.runs("red hat enterprise linux coreos", "centos stream coreos")
			},
			TurnOn: way("OpenShift (RHCOS)", "https://docs.openshift.com/container-platform/4.16/machine_configuration/machine-configs-configure.html",
				"oc debug node/NODE -- chroot /host cat "+fileLSMs+" prints the list.",
				"Apply this MachineConfig, once for each pool (worker, master); its nodes are drained and rebooted one by one:\napiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\nmetadata:\n  name: 99-worker-bpf-lsm\n  labels:\n    machineconfiguration.openshift.io/role: worker\nspec:\n  kernelArguments:\n    - lsm=LIST,bpf",
				"oc get machineconfigpool shows when it is done; then bpf must stand in the list."),
		},
		{
			is: func(n node) bool { return n.runs("fedora coreos") },
			TurnOn: way("Fedora CoreOS", "https://docs.fedoraproject.org/en-US/fedora-coreos/kernel-args/",
				stepKargs, stepReboot,
				"New machines get it by Butane:\nkernel_arguments:\n  should_exist:\n    - lsm=LIST,bpf"),
		},
		{
			is: func(n node) bool { return n.runs("flatcar") },
			TurnOn: way("Flatcar", "https://www.flatcar.org/docs/latest/setup/customization/other-settings/",
				`echo 'set linux_append="$linux_append lsm=LIST,bpf"' | sudo tee -a /oem/grub.cfg`, stepReboot,
				"New machines get it by Butane:\nkernel_arguments:\n  should_exist:\n    - lsm=LIST,bpf"),
		},
		{
			is: func(n node) bool {
				return n.runs("linux enterprise micro", "suse linux micro", "sl-micro", "leap micro", "opensuse microos")
			},
			TurnOn: way("SUSE Linux Micro, MicroOS", "https://documentation.suse.com/smart/systems-management/html/kernel-boot-parameters-modify/index.html",
				stepConfig, "sudo transactional-update grub.cfg", stepReboot),
		},
	}
}

// distributions are general ones, configured by the files of their boot loader.
func distributions() []system {
	return []system{
		{
			is: func(n node) bool { return n.runs("ubuntu") },
			on: func(n node) Answer {
				if n.runs("ubuntu 20.04", "ubuntu 22.04") {
					return No
				}
				return Unknown
			},
			TurnOn: way("Ubuntu", pageKubeArmorFAQ, stepGrubD, "sudo update-grub", stepReboot),
		},
		{
			is: func(n node) bool { return n.runs("debian") },
			on: func(n node) Answer {
				if n.runs("debian gnu/linux 12", "debian gnu/linux 13") {
					return Yes
				}
				return Unknown
			},
			TurnOn: way("Debian", "https://bugs.debian.org/cgi-bin/bugreport.cgi?bug=983329",
				"BPF-LSM is on by default since Debian 12, unless a boot parameter lsm= or security= takes it away: look in /proc/cmdline.",
				stepGrubD, "sudo update-grub", stepReboot),
		},
		{
			is: func(n node) bool { return n.runs("amazon linux 2023") },
			TurnOn: way("Amazon Linux 2023", "https://docs.aws.amazon.com/linux/al2023/ug/disable-option-selinux.html",
				stepGrubby, stepReboot,
				"Nodes of a node group are replaced sooner or later: do it in the launch template's user data, or in an image of your own."),
		},
		{
			is: func(n node) bool { return n.image == "amazon linux 2" || n.runs("amazon linux 2 ", "amazon linux (2)") },
			TurnOn: way("Amazon Linux 2", "https://github.com/kubearmor/KubeArmor/issues/1005",
				"sudo amazon-linux-extras install kernel-5.15: the kernels 4.14 and 5.4 have no BPF-LSM, and 5.15 has it on.",
				"sudo mount -t bpf bpffs /sys/fs/bpf, and the same in /etc/fstab: KubeArmor needs the file system.",
				`Where bpf still does not stand in the list: sudo grubby --update-kernel=ALL --args="lsm=LIST,bpf"`,
				stepReboot, "Amazon Linux 2 is at its end: Amazon Linux 2023 and Bottlerocket replace it."),
		},
		{
			is: func(n node) bool { return n.runs("oracle linux") },
			TurnOn: way("Oracle Linux", pageKubeArmorFAQ,
				"Use the Unbreakable Enterprise Kernel 7 or later: release 6 (5.4) has no BPF-LSM.", stepGrubby, stepReboot),
		},
		{
			is: func(n node) bool {
				return n.runs("red hat enterprise linux", "rocky linux", "almalinux", "centos", "fedora")
			},
			TurnOn: way("Red Hat Enterprise Linux, Rocky, AlmaLinux, CentOS, Fedora", "https://docs.redhat.com/en/documentation/red_hat_enterprise_linux/10/html-single/managing_monitoring_and_updating_the_kernel/index",
				"Version 9 or later: KubeArmor does not enforce on version 8 (kernel 4.18).", stepGrubby, stepReboot),
		},
		{
			is: func(n node) bool { return n.runs("opensuse") },
			on: always(Yes),
			TurnOn: way("openSUSE", "https://documentation.suse.com/smart/systems-management/html/kernel-boot-parameters-modify/index.html",
				"BPF-LSM is on by default, unless a boot parameter lsm= or security= takes it away: look in /proc/cmdline.",
				stepConfig, stepMkconf, stepReboot),
		},
		{
			is: func(n node) bool { return n.runs("suse linux enterprise") },
			TurnOn: way("SUSE Linux Enterprise Server", "https://documentation.suse.com/smart/systems-management/html/kernel-boot-parameters-modify/index.html",
				stepConfig, stepMkconf, stepReboot),
		},
		{
			is: func(n node) bool { return n.runs("azure linux", "mariner") },
			TurnOn: way("Azure Linux", "https://github.com/microsoft/azurelinux/issues/6843",
				"Kernels since the end of 2023 are built with BPF-LSM: update older ones.", stepConfig, stepMkconf, stepReboot),
		},
	}
}
