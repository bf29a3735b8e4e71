// Package armor is the only importer of KubeArmor's code: it translates KubeArmor's
// types into those of scan.
package armor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kubearmor/kubearmor-client/probe"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ProbeFile is where the agent writes what it knows of its node, inside its pod.
const ProbeFile = "/tmp/karmorProbeData.cfg"

// maxProbe bounds the probe data. Real ones stay under 1 KiB.
const maxProbe = 64 << 10

// DecodeProbe reads the probe data of the agent pod (NAMESPACE/NAME).
func DecodeProbe(r io.Reader, pod string, read time.Time) (*kernel.Probe, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxProbe+1))
	if err != nil {
		return nil, fmt.Errorf("probe data of %s: %w", pod, err)
	}
	if len(data) > maxProbe {
		return nil, fmt.Errorf("probe data of %s: larger than %d KiB", pod, maxProbe>>10)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("probe data of %s: %w", pod, errors.New("empty"))
	}
	var p probe.KubeArmorProbeData
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("probe data of %s: %w", pod, err)
	}
	return &kernel.Probe{
		Pod: pod, OSImage: p.OSImage, KernelVersion: p.KernelVersion, ActiveLSM: p.ActiveLSM,
		HostSecurity: p.HostSecurity, ContainerSecurity: p.ContainerSecurity,
		FilePosture: p.ContainerDefaultPosture.FileAction, NetworkPosture: p.ContainerDefaultPosture.NetworkAction,
		CapabilityPosture: p.ContainerDefaultPosture.CapabilitiesAction, Read: read,
	}, nil
}
