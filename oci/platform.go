package oci

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// ThisPlatform is the platform of this machine, with the operating system of
// containers.
func ThisPlatform() Platform {
	p := Platform{OS: "linux", Architecture: runtime.GOARCH}
	return p.normal()
}

// ParsePlatform reads OS/ARCHITECTURE[/VARIANT], or the architecture alone.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	p := Platform{OS: "linux"}
	switch {
	case len(parts) > 3 || slices.Contains(parts, ""):
		return Platform{}, fmt.Errorf("platform %.100q: not OS/ARCHITECTURE[/VARIANT]", s)
	case len(parts) == 1:
		p.Architecture = parts[0]
	default:
		p.OS, p.Architecture = parts[0], parts[1]
		if len(parts) == 3 {
			p.Variant = parts[2]
		}
	}
	return p.normal(), nil
}

// String is OS/ARCHITECTURE[/VARIANT].
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// architectures maps what uname and others call them to what images do.
var architectures = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}

// normal spells the platform as images do; 64-bit ARM has only one variant unless
// it says otherwise.
func (p Platform) normal() Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if a, ok := architectures[p.Architecture]; ok {
		p.Architecture = a
	}
	switch {
	case p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "8"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

// fits says how well an image for have runs where want is asked for: 0 not at all,
// more is better.
func (p Platform) fits(have *Platform) int {
	if have == nil {
		return 1
	}
	want, h := p.normal(), have.normal()
	switch {
	case want.OS != h.OS || want.Architecture != h.Architecture:
		return 0
	case want.Variant == h.Variant:
		return 4
	case want.Variant == "" || h.Variant == "":
		return 3
	case want.Architecture == "arm" && h.Variant < want.Variant:
		return 2 // older code runs on newer processors
	}
	return 0
}
