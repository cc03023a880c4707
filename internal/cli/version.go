package cli

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Set by the linker (-X vrafs/internal/cli.version=...); otherwise taken from the
// build information that the Go tool records.
var (
	version   string
	gitCommit string
	buildTime string
)

// Interface is the version of Nydus whose command line and control interface we
// offer. Clients switch work-arounds on when the Version line is below 2.1, so
// that line gives this number, marked with our name.
const Interface = "v2.4.4"

// A Build says which program this is.
type Build struct {
	Version   string // ours
	GitCommit string
	BuildTime string
	Profile   string // always "release"
	Compiler  string
}

// ThisBuild describes the running program. Facts that nobody recorded are
// "unknown".
func ThisBuild() Build {
	b := Build{Version: version, GitCommit: gitCommit, BuildTime: buildTime, Profile: "release",
		Compiler: runtime.Version() + " (" + runtime.GOOS + "/" + runtime.GOARCH + ")"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && b.GitCommit == "":
				b.GitCommit = s.Value
			case s.Key == "vcs.time" && b.BuildTime == "":
				b.BuildTime = s.Value
			}
		}
		if v := info.Main.Version; b.Version == "" && v != "" && v != "(devel)" {
			b.Version = v
		}
	}
	for _, p := range []*string{&b.Version, &b.GitCommit, &b.BuildTime} {
		if *p == "" {
			*p = "unknown"
		}
	}
	return b
}

// PackageVersion is the text after "Version:": Interface with our mark.
func (b Build) PackageVersion() string { return Interface + "-vrafs" }

// Block is the text of --version. Clients take the second field of the line that
// starts with Version.
func (b Build) Block() string {
	return strings.Join([]string{
		"Version: \t" + b.PackageVersion(),
		"Git Commit: \t" + b.GitCommit,
		"Build Time: \t" + b.BuildTime,
		"Profile: \t" + b.Profile,
		"Rustc: \t\tnone, " + b.Compiler,
	}, "\n")
}

// ID is the version in the JSON results of the image tool.
func (b Build) ID() string { return b.PackageVersion() + "-" + b.GitCommit }
