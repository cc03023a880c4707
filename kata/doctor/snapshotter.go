package doctor

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"vrafs/kata"
)

const (
	subjSnapshotter = "nydus-snapshotter"
	subjCache       = "cache directory"
)

// A snapshotter is what nydus-snapshotter was told.
type snapshotter struct {
	address  string
	cache    string
	cacheKey []string // where to change it
	tree     *tree    // nil if there is none
	mounts   bool     // images are mounted on the host, too
}

// snapshotter looks at nydus-snapshotter's configuration.
func (n *node) snapshotter() snapshotter {
	s := snapshotter{address: kata.SnapshotterSock}
	file := n.o.Snapshotter
	if file == "" {
		file = kata.SnapshotterFile
	}
	t, err := n.load(file)
	if err != nil {
		n.absent(subjSnapshotter, file, err, "print one with: vrafs kata config --file snapshotter")
		return s
	}
	s.tree = t
	if a := t.text("address"); a != "" {
		s.address = a
	}
	mode := t.text("daemon_mode")
	s.mounts = mode != "none"
	before := len(n.findings)
	if !t.flag("snapshot", "enable_nydus_overlayfs") {
		n.fault(subjSnapshotter, t, "set it to true", "Kata is not told of images: they would be mounted on the host and shared with the guest file by file", "snapshot", "enable_nydus_overlayfs")
	}
	if t.flag("snapshot", "enable_kata_volume") {
		n.fault(subjSnapshotter, t, "set it to false", "images are handed over in the form for pulling inside the guest", "snapshot", "enable_kata_volume")
	}
	if d := t.text("daemon", "fs_driver"); d != "" && d != "fusedev" {
		n.fault(subjSnapshotter, t, `set it to "fusedev"`, "driver "+quote(d)+" makes images that no daemon in user space serves", "daemon", "fs_driver")
	}
	if s.mounts {
		n.program(subjSnapshotter, t, "/usr/local/bin/nydusd", "daemon", "nydusd_path")
	}
	n.template(t)
	s.cache, s.cacheKey = t.text("cache_manager", "cache_dir"), []string{"cache_manager", "cache_dir"}
	if s.cache == "" {
		root := t.text("root")
		if root == "" {
			root = "/var/lib/containerd-nydus"
		}
		s.cache = path.Join(root, "cache")
	}
	if len(n.findings) == before {
		n.well(subjSnapshotter, "%s tells Kata of images", file)
	}
	return s
}

// program wants an executable file where a key says, or else where it is by default.
func (n *node) program(subject string, t *tree, byDefault string, keys ...string) bool {
	p := t.text(keys...)
	if p == "" {
		p = byDefault
	}
	found := ""
	switch st, err := n.stat(p); {
	case p == "":
		found = "no program is named"
	case !path.IsAbs(p):
		found = quote(p) + " is not an absolute path"
	case err != nil:
		found = p + ": " + why(err)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		found = p + " is no executable file"
	default:
		return true
	}
	n.fault(subject, t, "install vrafsd there, or name where it is", found, keys...)
	return false
}

// template looks at the configuration that the snapshotter completes for each image.
func (n *node) template(t *tree) {
	file := t.text("daemon", "nydusd_config")
	if file == "" {
		n.fault(subjSnapshotter, t, "name a file; print one with: vrafs kata config --file nydusd", "no configuration of the daemon is named", "daemon", "nydusd_config")
		return
	}
	text, err := n.read(file)
	if err != nil {
		n.absent(subjSnapshotter, file, err, "print one with: vrafs kata config --file nydusd")
		return
	}
	var c struct {
		Device *struct {
			Backend struct{ Type string }
			Cache   struct{ Type string }
		}
		Mode           string
		DigestValidate bool `json:"digest_validate"`
	}
	bad := func(key, found, remedy string) {
		n.add(Finding{Level: Fault, Subject: subjSnapshotter, File: file, Key: key, Found: found, Remedy: remedy})
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil || c.Device == nil {
		bad("device", "not a configuration of nydusd in JSON, version 1", "print one with: vrafs kata config --file nydusd")
		return
	}
	if k := c.Device.Cache.Type; k != "blobcache" && k != "filecache" {
		bad("device.cache.type", "cache "+quote(k)+": version 6 images need one on the disk", `set it to "blobcache"`)
	}
	if c.Mode == "cached" {
		bad("mode", "mode cached is for version 5 images only", `set it to "direct"`)
	}
	if c.DigestValidate {
		bad("digest_validate", "version 6 images are refused with it", "set it to false: chunks are checked in any case")
	}
}

// remote are file systems whose pages depend on somebody else.
var remote = []string{"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs", "glusterfs", "lustre", "gfs2", "ocfs2", "afs", "beegfs"}

// cache looks at the directory that all daemons of the node share.
func (n *node) cache(s snapshotter) {
	if s.tree == nil {
		return
	}
	st, err := n.stat(s.cache)
	kind := n.fsType(s.cache)
	switch {
	case err == nil && !st.IsDir():
		n.fault(subjCache, s.tree, "name a directory", s.cache+" is no directory", s.cacheKey...)
	case slices.Contains(remote, kind) || strings.HasPrefix(kind, "fuse"):
		n.fault(subjCache, s.tree, "name a directory on a local file system such as ext4 or xfs", s.cache+" is on "+kind+": reads of the cache would hang with its server", s.cacheKey...)
	case kind == "tmpfs" || kind == "ramfs":
		n.add(Finding{Level: Warning, Subject: subjCache, File: s.tree.at(s.cacheKey...), Key: dotted(s.cacheKey),
			Found: s.cache + " is in memory, and is not limited", Remedy: "name a directory on a disk, or give vrafsd --cache-limit"})
	case kind == "":
		n.well(subjCache, "%s, on a file system of unknown type", s.cache)
	default:
		n.well(subjCache, "%s, on %s", s.cache, kind)
	}
}

// quote shows a value of a configuration, not too much of it.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return `"` + strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s), "?") + `"`
}
