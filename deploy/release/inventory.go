package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeInventory writes the inventory of a program's components (software bill of materials, CycloneDX), from the information that Go wrote into the program.
func writeInventory(out *output, s *source, t target, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	bom := inventory(s, t, info, sha256.Sum256(content))
	return out.create(fmt.Sprintf("rempart_%s_%s.cdx.json", s.version, t.name()), func(w io.Writer) error {
		return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	})
}

func inventory(s *source, t target, info *debug.BuildInfo, sum [sha256.Size]byte) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.SerialNumber = serialNumber(sum)
	main := component(cdx.ComponentTypeApplication, info.Main.Path, "v"+s.version)
	main.Name = "rempart"
	main.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sum)}}
	main.Licenses = &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}
	main.Properties = &[]cdx.Property{{Name: "target", Value: t.name()}, {Name: "commit", Value: s.commit}}
	bom.Metadata = &cdx.Metadata{Timestamp: s.time.Format("2006-01-02T15:04:05Z"), Component: &main}
	components := []cdx.Component{component(cdx.ComponentTypeLibrary, "std", info.GoVersion)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component(cdx.ComponentTypeLibrary, m.Path, m.Version)
		c.Properties = &[]cdx.Property{{Name: "go.sum", Value: m.Sum}}
		components = append(components, c)
	}
	var refs []string
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return bom
}

func component(kind cdx.ComponentType, path, version string) cdx.Component {
	url := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cdx.Component{BOMRef: url, Type: kind, Name: path, Version: version, PackageURL: url}
}

// serialNumber makes a UUID (version 8, RFC 9562) of a checksum, so that equal programs have equal inventories.
func serialNumber(sum [sha256.Size]byte) string {
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
