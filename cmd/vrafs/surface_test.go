package main

import (
	"slices"
	"strings"
	"testing"

	"vrafs/internal/cli"
)

// surface is nydus-image's command line, an option per line: the short name or -,
// the long one with =VALUE if it takes one, the default if the help shows it, and in
// braces the values there are.
var surface = map[string]string{
	"": `
L log-file=
l log-level= info {trace,debug,info,warn,error}`,
	"create": `
t type= dir-rafs {directory,dir-rafs,estargz-rafs,estargz-ref,estargztoc-ref,tar-rafs,tar-tarfs,targz-rafs,targz-ref,stargz_index}
t source-type= dir-rafs
B bootstrap=
D blob-dir=
b blob=
- external-blob=
- blob-inline-meta
- inline-bootstrap
- blob-id=
- blob-data-size=
- blob-offset=
- chunk-size=
- batch-size= 0
- compressor= zstd {none,lz4_block,zstd}
- digester= blake3 {blake3,sha256}
C config=
v fs-version= 6 {5,6}
- features= {blob-toc}
- chunk-dict=
- parent-bootstrap=
- aligned-chunk
- repeatable
- whiteout-spec= oci {oci,overlayfs,none}
- prefetch-policy= none {fs,blob,none}
J output-json=
E encrypt
- blob-cache-dir=
- attributes=
- disable-check`,
	"merge": `
B bootstrap=
D blob-dir=
- chunk-dict=
- parent-bootstrap=
- prefetch-policy= none {fs,blob,none}
J output-json=
- blob-digests=
- original-blob-ids=
- blob-sizes=
- blob-toc-digests=
- blob-toc-sizes=
C config=`,
	"check": `
B bootstrap=
D blob-dir=
C config=
J output-json=
v verbose`,
	"inspect": `
B bootstrap=
D blob-dir=
C config=
R request=`,
	"export": `
- block
B bootstrap=
D localfs-dir=
D blob-dir=
C config=
- threads= 4
O output=
- verity`,
	"unpack": `
B bootstrap=
- output=
b blob=
D blob-dir=
- backend-type= {localdisk,localfs,oss,s3,registry,http-proxy}
- backend-config=
- backend-config-file=`,
	"compact": `
B bootstrap=
D blob-dir=
C config=
- backend-type=
- backend-config=
- backend-config-file=
- min-used-ratio=
- compact-blob-size= 10485760
- max-compact-size= 104857600
- layers-to-compact= 0
- chunk-dict=
O output-bootstrap=
J output-json=`,
	"optimize": `
B bootstrap=
p prefetch-files=
C config=
D blob-dir=
b blob=
- backend-type=
- backend-config=
- backend-config-file=
O output-bootstrap=
- output-blob-dir=
J output-json=`,
	"stat": `
B bootstrap=
D blob-dir=
T target=
C config=
- digester= {blake3,sha256}
J output-json=`,
	"chunkdict generate": `
- database= sqlite:///home/runner/output/database.db
B bootstrap=
D blob-dir=
- prefetch-policy= none {fs,blob,none}
J output-json=
C config=
v verbose`,
}

// subcommand finds a command by the words of its name.
func subcommand(t *testing.T, c *cli.Command, words string) *cli.Command {
	t.Helper()
	for name := range strings.FieldsSeq(words) {
		i := slices.IndexFunc(c.Commands, func(k *cli.Command) bool { return k.Name == name })
		if i < 0 {
			t.Fatalf("no subcommand %s", words)
		}
		c = c.Commands[i]
	}
	return c
}

// named finds an option by its long name or an alias.
func named(c *cli.Command, long string) *cli.Option {
	i := slices.IndexFunc(c.Options, func(o *cli.Option) bool { return o.Long == long || slices.Contains(o.Aliases, long) })
	if i < 0 {
		return nil
	}
	return c.Options[i]
}

func TestEveryOptionOfNydusImageIsThere(t *testing.T) {
	root := newProgram(nydusImage).root
	for name, lines := range surface {
		c := subcommand(t, root, name)
		for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
			words := strings.Fields(line)
			long, valued := strings.CutSuffix(words[1], "=")
			o := named(c, long)
			if o == nil {
				t.Errorf("%s: no --%s", name, long)
				continue
			}
			short, def, choices := "-", "", ""
			if o.Short != 0 {
				short = string(o.Short)
			}
			for _, w := range words[2:] {
				if strings.HasPrefix(w, "{") {
					choices = strings.Trim(w, "{}")
				} else {
					def = w
				}
			}
			if short != words[0] || valued != (o.Value != "") {
				t.Errorf("%s --%s: short name %s, takes a value: %v; want %q", name, long, short, o.Value != "", line)
			}
			if def != "" && o.Default != def || choices != "" && strings.Join(o.Choices, ",") != choices {
				t.Errorf("%s --%s: default %q, values %q; want %q", name, long, o.Default, o.Choices, line)
			}
		}
	}
}
