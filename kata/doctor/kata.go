package doctor

import (
	"fmt"
	"math/bits"
	"strings"

	"vrafs/kata"
)

const (
	subjKata   = "kata"
	subjDaemon = "daemon"
	subjMemory = "guest memory"
)

// configurations are where runtimes look, if nobody says where.
var configurations = map[kata.Runtime][]string{
	kata.Go:   {kata.KataDir + "/configuration.toml", "/usr/share/defaults/kata-containers/configuration.toml", "/opt/kata/share/defaults/kata-containers/configuration.toml"},
	kata.Rust: {kata.KataDirRust + "/configuration.toml", "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml", "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml"},
}

// hypervisors that can have the daemon's device, with the one that is QEMU.
var hypervisors = map[string]bool{"qemu": true, "clh": false, "cloud-hypervisor": false}

// kata looks at a runtime's configuration. daemons are those that were asked already.
func (n *node) kata(r *runtime, daemons map[string]bool) {
	file := r.file
	if file == "" {
		file, _ = n.firstOf(configurations[r.by]...)
	}
	t, err := n.load(file)
	if err != nil {
		n.absent(subjKata, file, err, "name the configuration with options.ConfigPath in containerd's table of runtime "+r.name+", or install Kata")
		return
	}
	for _, d := range n.dropIns(file) {
		if err := t.add(n, d); err != nil {
			n.absent(subjKata, d, err, "correct the file: the runtime does not start with it")
		}
	}
	sections := t.table("hypervisor")
	if len(sections) == 0 {
		n.fault(subjKata, t, "install one of Kata's configurations", "no hypervisor is configured", "hypervisor")
		return
	}
	before := len(n.findings)
	for _, h := range sections {
		isQEMU, ok := hypervisors[h]
		if !ok {
			n.fault(subjKata, t, "use a configuration with QEMU or Cloud Hypervisor", "Kata starts no daemon for images with this hypervisor", "hypervisor", h)
			continue
		}
		r.qemu = r.qemu || isQEMU
		n.hypervisor(t, h, isQEMU, daemons)
		n.memory(t, h)
	}
	if Faults(n.findings[before:]) == 0 {
		n.well(subjKata, "%s: runtime %s with %s", file, r.name, strings.Join(sections, ", "))
	}
}

// hypervisor looks at what the runtime does with daemon and device.
func (n *node) hypervisor(t *tree, h string, isQEMU bool, daemons map[string]bool) {
	key := func(name string) []string { return []string{"hypervisor", h, name} }
	if s := t.text(key("shared_fs")...); s != "virtio-fs-nydus" {
		n.fault(subjKata, t, `set it to "virtio-fs-nydus"`, "the runtime does not start the daemon for images: shared_fs is "+quote(s), key("shared_fs")...)
	}
	if n.program(subjDaemon, t, "", key("virtio_fs_daemon")...) {
		n.daemon(t, h, daemons)
	}
	if size := t.number(key("virtio_fs_cache_size")...); size > 0 {
		found := fmt.Sprintf("a DAX window of %d MiB: the guest's mount fails", size)
		if isQEMU {
			found = fmt.Sprintf("a DAX window of %d MiB: upstream QEMU has no property cache-size and does not start", size)
		}
		n.fault(subjKata, t, "set it to 0", found, key("virtio_fs_cache_size")...)
	}
	if t.flag(key("virtio_fs_is_dax")...) {
		n.fault(subjKata, t, "set it to false", "DAX is asked for, which neither hypervisor has: the guest's mount fails", key("virtio_fs_is_dax")...)
	}
	if q := t.number(key("virtio_fs_queue_size")...); q < 0 || q > 1024 || bits.OnesCount64(uint64(q)) > 1 {
		n.fault(subjKata, t, "set it to 1024", fmt.Sprintf("queue size %d is no power of two up to 1024", q), key("virtio_fs_queue_size")...)
	}
}

// daemon asks the daemon whether it is ours, and takes its arguments.
func (n *node) daemon(t *tree, h string, asked map[string]bool) {
	name, args := []string{"hypervisor", h, "virtio_fs_daemon"}, []string{"hypervisor", h, "virtio_fs_extra_args"}
	p := t.text(name...)
	var extra []string
	list, _ := t.get(args...).([]any)
	for _, a := range list {
		s, ok := a.(string)
		if !ok {
			n.fault(subjDaemon, t, "make it a list of texts", "an argument is no text", args...)
			return
		}
		extra = append(extra, s)
	}
	id := strings.Join(append([]string{p}, extra...), "\x00")
	if n.o.Run == nil || asked[id] {
		return
	}
	asked[id] = true
	real, err := n.real(p)
	if err != nil {
		return
	}
	out, err := n.o.Run(n.ctx, n.host(real), "--version")
	if err != nil || !strings.Contains(out, "-vrafs") {
		n.fault(subjDaemon, t, "install vrafsd there, or name where it is", p+" is not vrafsd: --version says "+quote(firstLine(out)), name...)
		return
	}
	// As Kata does: its own arguments, then those of the configuration.
	argv := append([]string{"virtiofs", "--log-level", "info", "--apisock", "/run/doctor.api", "--sock", "/run/doctor.sock"}, extra...)
	if out, err := n.o.Run(n.ctx, n.host(real), append(argv, "--check-arguments")...); err != nil {
		n.fault(subjDaemon, t, "set it to [], or to options that vrafsd virtiofs --help lists", "the daemon refuses its arguments, and the pod would hang: "+firstLine(out), args...)
		return
	}
	n.well(subjDaemon, "%s is vrafsd and takes its arguments", p)
}

// firstLine is the first line that is not empty, not too much of it.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if len(line) > 200 {
		line = line[:200] + "..."
	}
	return line
}

// memory looks at whether the daemon can have the guest's memory.
func (n *node) memory(t *tree, h string) {
	if k := []string{"factory", "enable_template"}; t.flag(k...) {
		n.fault(subjMemory, t, "set it to false", "machines made of a template do not share their memory, and Kata refuses both together", k...)
	}
	backend, huge := []string{"hypervisor", h, "file_mem_backend"}, []string{"hypervisor", h, "enable_hugepages"}
	dir, keys := "/dev/shm", backend
	if b := t.text(backend...); b != "" {
		dir = b
	}
	if t.flag(huge...) {
		dir, keys = "/dev/hugepages", huge
	}
	switch kind := n.fsType(dir); {
	case kind == "":
		return // no table of mounts: nobody knows
	case t.flag(huge...):
		n.hugePages(t, dir, kind, keys)
	case kind != "tmpfs" && kind != "hugetlbfs":
		n.fault(subjMemory, t, "mount a tmpfs on "+dir+", or set the key to a directory on one", "guest memory would lie in "+dir+" on "+kind+", and the daemon takes only tmpfs and hugetlbfs", keys...)
	}
}

func (n *node) hugePages(t *tree, dir, kind string, keys []string) {
	if kind != "hugetlbfs" {
		n.fault(subjMemory, t, "mount hugetlbfs on "+dir+", or set the key to false", dir+" is on "+kind, keys...)
		return
	}
	text, err := n.read("/proc/meminfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "HugePages_Total:" && f[1] == "0" {
			n.fault(subjMemory, t, "give the node huge pages (vm.nr_hugepages), or set the key to false", "the kernel has no huge pages", keys...)
		}
	}
}
