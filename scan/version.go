package scan

import (
	"fmt"
	"regexp"

	psa "k8s.io/pod-security-admission/api"
)

// PSSServer asks for the version of the Pod Security Standards that the API server
// itself has.
const PSSServer = "server"

// ResolvePSS turns "server", "latest" or "v1.N" into a version. server is the API
// server's version ("v1.36.3"), empty where there is none. The notes say what the
// reader has to know of the choice.
func ResolvePSS(asked, server string) (version psa.Version, notes []string, err error) {
	newest := NewestPSS()
	switch asked {
	case PSSServer, "":
		if server == "" {
			return psa.LatestVersion(), []string{fmt.Sprintf("the version of the API server is not known: the newest Pod Security Standards (%s) are used; set --pss-version for others", newest)}, nil
		}
		minor := regexp.MustCompile(`^v?1\.(\d+)`).FindStringSubmatch(server)
		if minor == nil {
			return version, nil, fmt.Errorf("server version %q: cannot tell the minor version; set --pss-version", server)
		}
		if version, err = psa.ParseVersion("v1." + minor[1]); err != nil {
			return version, nil, fmt.Errorf("server version %q: %w", server, err)
		}
	default:
		if version, err = psa.ParseVersion(asked); err != nil {
			return version, nil, fmt.Errorf("pss-version %q: want server, latest or v1.N", asked)
		}
	}
	if !version.Latest() && newest.Older(version) {
		notes = append(notes, fmt.Sprintf("%s is newer than the newest checks of this program (%s), which are used", version, newest))
	}
	return version, notes, nil
}
