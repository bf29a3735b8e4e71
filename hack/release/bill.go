package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/licensecheck"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	xmodule "golang.org/x/mod/module"
)

const noAssertion = "NOASSERTION"

// part is something that is linked: a module, or Go's standard library.
type part struct{ path, version string }

// makeBill makes the bill of materials of the binaries as SPDX 2.3: what the linker wrote
// into each of them, with the licences that the modules bring.
func makeBill(st stamp, binaries []binary) ([]byte, error) {
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: program + "-" + st.version,
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "escape-scanner-hack-release"}},
			Created:  st.date.Format(time.RFC3339),
		},
	}
	all := sha256.New()
	parts := map[part]bool{}
	for _, b := range binaries {
		sum := sha256.Sum256(b.data)
		all.Write(sum[:])
		pkg := programPackage(st, b, sum)
		doc.Packages = append(doc.Packages, pkg)
		doc.Relationships = append(doc.Relationships, relation("DOCUMENT", "DESCRIBES", pkg.PackageSPDXIdentifier))
		for _, p := range partsOf(b.info) {
			parts[p] = true
			doc.Relationships = append(doc.Relationships, relation(pkg.PackageSPDXIdentifier, "DEPENDS_ON", p.id()))
		}
	}
	// It names this document and no other: the same binaries have the same one.
	doc.DocumentNamespace = fmt.Sprintf("https://%s/spdx/%s/%x", module, st.version, all.Sum(nil))
	sorted := make([]part, 0, len(parts))
	for p := range parts {
		sorted = append(sorted, p)
	}
	slices.SortFunc(sorted, func(a, b part) int { return strings.Compare(a.path+"@"+a.version, b.path+"@"+b.version) })
	read, err := newLicences()
	if err != nil {
		return nil, err
	}
	for _, p := range sorted {
		licence, err := read.of(p)
		if err != nil {
			return nil, err
		}
		doc.Packages = append(doc.Packages, p.spdx(licence))
	}
	var out bytes.Buffer
	if err := spdxjson.Write(doc, &out, spdxjson.Indent(" "), spdxjson.EscapeHTML(false)); err != nil {
		return nil, fmt.Errorf("bill of materials: %w", err)
	}
	return out.Bytes(), nil
}

func writeBill(file string, st stamp, binaries []binary) error {
	bill, err := makeBill(st, binaries)
	if err != nil {
		return err
	}
	return os.WriteFile(file, bill, 0o644)
}

// partsOf are the modules that are linked into a binary, and the standard library.
func partsOf(info *debug.BuildInfo) []part {
	parts := []part{{"stdlib", strings.TrimPrefix(info.GoVersion, "go")}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, part{m.Path, m.Version})
	}
	return parts
}

func programPackage(st stamp, b binary, sum [sha256.Size]byte) *v2_3.Package {
	return &v2_3.Package{
		PackageName: module, PackageVersion: st.version,
		PackageSPDXIdentifier:   common.ElementID("Package-" + program + "-" + b.platform.os + "-" + b.platform.arch),
		PackageFileName:         program,
		PackageSupplier:         &common.Supplier{SupplierType: "Organization", Supplier: program},
		PackageDownloadLocation: "git+https://" + module + "@" + st.commit, PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(sum[:])}},
		PackageSourceInfo:       "commit " + st.commit + ", built for " + b.platform.String() + " by " + b.info.GoVersion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: ownLicence, PackageCopyrightText: noAssertion,
		PrimaryPackagePurpose:     "APPLICATION",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + module + "@" + st.version}},
	}
}

// notID is what cannot stand in an identifier of SPDX.
var notID = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func (p part) id() common.ElementID {
	return common.ElementID("Package-" + notID.ReplaceAllString(p.path+"-"+p.version, "-"))
}

func (p part) spdx(licence string) *v2_3.Package {
	return &v2_3.Package{
		PackageName: p.path, PackageVersion: p.version, PackageSPDXIdentifier: p.id(), PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: licence, PackageCopyrightText: noAssertion,
		PrimaryPackagePurpose: "LIBRARY",
		// In a purl a + of a version would be a blank.
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + p.path + "@" + strings.ReplaceAll(p.version, "+", "%2B"),
		}},
	}
}

func relation(from common.ElementID, how string, to common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how}
}

// licences finds the licences of modules in the module cache.
type licences struct{ cache, goroot string }

func newLicences() (licences, error) {
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOROOT").Output()
	if err != nil {
		return licences{}, fmt.Errorf("go env: %w", err)
	}
	cache, goroot, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return licences{cache, goroot}, nil
}

// licenceFile is how files with a licence are called.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([-.].*)?$`)

// of is the licence of a part as an expression of SPDX.
func (l licences) of(p part) (string, error) {
	dir := l.goroot
	if p.path != "stdlib" {
		escaped, err := xmodule.EscapePath(p.path)
		if err != nil {
			return "", err
		}
		version, err := xmodule.EscapeVersion(p.version)
		if err != nil {
			return "", err
		}
		dir = filepath.Join(l.cache, filepath.FromSlash(escaped)+"@"+version)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("licence of %s: %w", p.path, err)
	}
	var found []string
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return "", err
		}
		found = append(found, licencesIn(text)...)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if len(found) == 0 {
		return noAssertion, nil
	}
	return strings.Join(found, " AND "), nil
}

// licencesIn are the licences that a text is; none when much of it is something else.
func licencesIn(text []byte) []string {
	cover := licensecheck.Scan(text)
	if cover.Percent < 75 {
		return nil
	}
	var ids []string
	for _, m := range cover.Match {
		ids = append(ids, m.ID)
	}
	return ids
}
