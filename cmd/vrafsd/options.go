package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"vrafs/internal/cli"
	"vrafs/internal/daemon"
	"vrafs/internal/keeper"
	"vrafs/internal/opener"
)

// A program is the command tree and what it fills in.
type program struct {
	root *cli.Command

	logFile     string
	logLevel    string
	logRotation string

	cfg           daemon.Config
	virtiofs      daemon.VirtioFS
	fuse          daemon.FUSE
	prefetchFiles string
	keeper        string   // on or off
	continued     uint     // descriptor of what a former life left; 0: nothing
	checkState    uint     // descriptor of a state to be judged; 0: none
	checkOnly     bool     // say whether the command line is good, and serve nothing
	writeback     string   // on or off
	keeperLink    string   // what a keeper, or its server, was started for; "" by anybody else
	ignored       []string // options of other daemons that were given
}

func newProgram(name string) *program {
	p := &program{
		logLevel:    "info",
		logRotation: "0",
		keeper:      "on",
		writeback:   "on",
		cfg:         daemon.Config{Root: daemon.Root{Mountpoint: "/"}, Limits: daemon.Limits{OpenFiles: 1_000_000, RequestTime: 2 * time.Minute}},
		virtiofs:    daemon.VirtioFS{Queues: 4, OrphanAfter: 10 * time.Second},
		fuse:        daemon.FUSE{Threads: 4, FailoverPolicy: "resend"},
	}
	global, fuse, fs := p.globalOptions(), p.fuseOptions(), p.fsOptions()
	p.root = &cli.Command{
		Name:    name,
		About:   "Serve RAFS images to a guest (virtiofs) or to this host (fuse)",
		Version: cli.ThisBuild().Block(),
		Options: concat(global, fuse, fs),
		Run:     p.runFUSE,
		Commands: []*cli.Command{
			{Name: "fuse", About: "Mount an image on this host; also without a subcommand", Options: concat(fuse, fs), Run: p.runFUSE},
			{Name: "virtiofs", About: "Serve a guest over vhost-user", Options: concat(p.virtiofsOptions(), fs, p.ignoredOptions()), Run: p.runVirtioFS},
			p.singleton(), p.nbd(), p.uffd(), p.ps(),
		},
	}
	return p
}

func concat(lists ...[]*cli.Option) []*cli.Option {
	var all []*cli.Option
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func (p *program) globalOptions() []*cli.Option {
	opts := []*cli.Option{
		{Long: "apisock", Short: 'A', Value: "apisock", Help: "Unix socket of the control API", Set: cli.Str(&p.cfg.APISocket)},
		{Long: "config", Short: 'C', Value: "config", Help: "Configuration file; read if --bootstrap is given", Set: cli.Str(&p.cfg.Root.ConfigFile)},
		{Long: "id", Value: "id", Help: "Name of this instance", Requires: []string{"supervisor"}, Set: cli.Str(&p.cfg.ID)},
		{Long: "supervisor", Value: "supervisor", Help: "Unix socket of the supervisor", Requires: []string{"id"}, Set: cli.Str(&p.cfg.Supervisor)},
		// Kata's guide appends a second --log-level, so the last one counts.
		{Long: "log-level", Short: 'l', Value: "log-level", Help: "Log level", Choices: cli.Levels, Default: p.logLevel, Many: true, Set: cli.Str(&p.logLevel)},
		{Long: "log-file", Short: 'L', Value: "log-file", Help: "Log file; \".log\" is added to a name without extension (default: standard error)", Set: cli.Str(&p.logFile)},
		{Long: "log-rotation-size", Value: "log-rotation-size", Help: "Rotate the log file at this many MB; 0 for never", Default: p.logRotation, Set: cli.Str(&p.logRotation)},
		{Long: "rlimit-nofile", Value: "rlimit-nofile", Help: "Number of open files to allow; 0 leaves the limit alone", Default: "1000000", Set: cli.Uint(&p.cfg.Limits.OpenFiles, 0, 1<<62)},
		{Long: "upgrade", Help: "Start in upgrade mode: wait for a takeover", Set: cli.Flag(&p.cfg.Upgrade)},
		{Long: "workers", Value: "workers", Help: "Requests that may wait for data at once (default: 16 per request queue or FUSE thread)", Set: cli.Uint(&p.cfg.Limits.Workers, 1, 1<<16)},
		{Long: "decompressors", Value: "decompressors", Help: "Threads that decompress and check chunks (default: one per CPU)", Set: cli.Uint(&p.cfg.Limits.Decompressors, 1, 1024)},
		{Long: "fetch-limit", Value: "MiB", Help: "Bytes in flight from the back ends, in MiB (default: 64)", Set: mebibytes(&p.cfg.Limits.FetchBytes)},
		{Long: "credential-helper", Value: "socket", Help: "Unix socket of a helper that gives registries' credentials when they are refused (protocol: kubelet's credential providers)", Set: cli.Str(&p.cfg.CredentialHelper)},
		{Long: "bandwidth-limit", Value: "MiB", Help: "Bytes per second from the back ends, in MiB (default: no limit)", Set: mebibytes(&p.cfg.Limits.Bandwidth)},
		{Long: "prefetch-bandwidth-limit", Value: "MiB", Help: "Of them, those that nobody waits for, in MiB (default: no limit)", Set: mebibytes(&p.cfg.Limits.PrefetchBandwidth)},
		{Long: "cache-limit", Value: "MiB", Help: "What a cache directory may take on the disk, in MiB (default: no limit)", Set: mebibytes(&p.cfg.Limits.CacheBytes)},
		{Long: "request-timeout", Value: "seconds", Help: "Let a request that waits for data fail after this time; 0 for never", Default: "120", Set: seconds(&p.cfg.Limits.RequestTime)},
		{Long: "memory-limit", Value: "MiB", Help: "Soft limit of the heap in MiB (default: a quarter of the cgroup's memory)", Set: mebibytes(&p.cfg.Limits.Memory)},
	}
	for _, o := range opts {
		o.Global = true
	}
	return opts
}

func (p *program) fuseOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "mountpoint", Short: 'M', Value: "mountpoint", Help: "Directory to mount on", Required: true, Set: cli.Str(&p.fuse.Mountpoint)},
		{Long: "failover-policy", Value: "failover-policy", Help: "What becomes of requests that a dead predecessor had read",
			Choices: []string{"none", "resend", "flush"}, Default: p.fuse.FailoverPolicy, Set: cli.Str(&p.fuse.FailoverPolicy)},
		{Long: "fuse-threads", Value: "fuse-threads", Aliases: []string{"thread-num"}, Help: "Number of FUSE worker threads", Default: "4", Set: cli.Uint(&p.fuse.Threads, 1, 1024)},
		{Long: "writable", Help: "Mount read-write", Set: cli.Flag(&p.fuse.Writable)},
		{Long: "keeper", Value: "on|off", Help: "Have a second process that restarts this one when it dies, with no read failing; not with --supervisor",
			Choices: []string{"on", "off"}, Default: p.keeper, Set: cli.Str(&p.keeper)},
		{Long: keeper.Option, Value: "role", Hidden: true, Choices: []string{keeper.Hold, keeper.Resume}, Set: cli.Str(&p.keeperLink)},
	}
}

func (p *program) fsOptions() []*cli.Option {
	r := &p.cfg.Root
	return []*cli.Option{
		{Long: "bootstrap", Short: 'B', Value: "bootstrap", Help: "RAFS metadata to mount at start", Conflicts: []string{"shared-dir"}, Set: cli.Str(&r.Bootstrap)},
		{Long: "localfs-dir", Short: 'D', Value: "localfs-dir", Help: "Directory of blobs and cache, instead of a configuration", Conflicts: []string{"config"}, Set: cli.Str(&r.LocalDir)},
		{Long: "shared-dir", Short: 's', Value: "shared-dir", Help: "Directory to share instead of an image", Conflicts: []string{"bootstrap"}, Set: cli.Str(&r.SharedDir)},
		{Long: "writeback-cache", Value: "on|off", Help: "Let a guest keep what it writes to shared directories for a while; off if others change files there",
			Choices: []string{"on", "off"}, Default: p.writeback, Set: cli.Str(&p.writeback)},
		{Long: "prefetch-files", Value: "prefetch-files", Help: "List of files of the image to fetch first, in this order: an absolute path a line, or JSON with ranges; - for standard input", Requires: []string{"bootstrap"}, Set: cli.Str(&p.prefetchFiles)},
		{Long: "virtual-mountpoint", Short: 'm', Value: "virtual-mountpoint", Help: "Where to mount inside the virtual file system", Default: r.Mountpoint, Set: cli.Str(&r.Mountpoint)},
		{Long: "dedup-db", Value: "dedup-db", Help: "Chunk deduplication database (accepted, not used)", Set: p.ignore("dedup-db")},
	}
}

func (p *program) virtiofsOptions() []*cli.Option {
	v := &p.virtiofs
	return []*cli.Option{
		{Long: "sock", Value: "sock", Help: "Vhost-user socket, made by the daemon", Required: true, Aliases: []string{"socket-path"}, Set: cli.Str(&v.Socket)},
		{Long: "hybrid-mode", Help: "Serve images and shared directories side by side", Set: cli.Flag(&v.Hybrid)},
		{Long: "request-queues", Value: "request-queues", Help: "Number of request queues", Default: "4", Set: cli.Uint(&v.Queues, 1, 64)},
		{Long: "queue-size", Value: "queue-size", Help: "Largest ring to accept (default: what the protocol allows, 32768)", Set: cli.PowerOfTwo(&v.QueueSize, 2, 32768, false)},
		{Long: "tag", Value: "tag", Help: "Tag for front-ends that ask the device for it", Set: cli.Str(&v.Tag)},
		{Long: "any-memory", Help: "Accept guest memory in files on block devices, not only on tmpfs and hugetlbfs", Set: cli.Flag(&v.AnyMemory)},
		{Long: "orphan-timeout", Value: "seconds", Help: "Exit after this time without front-end once the parent or the socket's directory is gone; 0 for never", Default: "10", Set: seconds(&v.OrphanAfter)},
		{Long: daemon.OptionContinue, Value: "fd", Hidden: true, Set: cli.Uint(&p.continued, 3, 1<<30)},
		{Long: daemon.OptionCheckState, Value: "fd", Hidden: true, Set: cli.Uint(&p.checkState, 3, 1<<30)},
		{Long: "check-arguments", Help: "Only check the command line", Hidden: true, Set: cli.Flag(&p.checkOnly)},
	}
}

// ignoredOptions are virtiofsd's: Kata's shipped configuration passes some to
// whatever daemon it starts, and does not notice that a daemon refuses them.
func (p *program) ignoredOptions() []*cli.Option {
	var opts []*cli.Option
	add := func(value string, names ...string) {
		for _, n := range names {
			opts = append(opts, &cli.Option{Long: n, Value: value, Hidden: true, Many: true, Set: p.ignore(n)})
		}
	}
	add("value", "thread-pool-size", "threads", "cache", "sandbox", "seccomp", "xattrmap", "modcaps", "inode-file-handles",
		"socket-group", "translate-uid", "translate-gid", "uid-map", "gid-map", "migration-mode", "migration-on-error")
	add("", "announce-submounts", "xattr", "posix-acl", "security-label", "writeback", "allow-direct-io", "no-announce-submounts",
		"killpriv-v2", "no-killpriv-v2", "no-readdirplus", "allow-mmap", "readonly", "preserve-noatime", "syslog")
	return append(opts, &cli.Option{Long: "options", Short: 'o', Value: "value", Hidden: true, Many: true, Set: p.ignore("o")})
}

func (p *program) ignore(name string) func(string) error {
	return func(string) error { p.ignored = append(p.ignored, name); return nil }
}

func (p *program) runFUSE(ctx context.Context, env *cli.Env) error {
	if p.keeperLink == keeper.Hold {
		return p.keep(env)
	}
	p.cfg.FUSE = &p.fuse
	p.fuse.Resume = p.keeperLink == keeper.Resume
	if p.keeper == "on" {
		p.fuse.Argv = os.Args
	}
	return p.serve(ctx, env)
}

func (p *program) runVirtioFS(ctx context.Context, env *cli.Env) error {
	if p.checkOnly {
		return nil // the parser has checked it
	}
	p.cfg.VirtioFS = &p.virtiofs
	p.virtiofs.Continue = int(p.continued)
	p.virtiofs.Argv = slices.DeleteFunc(slices.Clone(os.Args), func(a string) bool {
		return strings.HasPrefix(a, "--"+daemon.OptionContinue+"=")
	})
	if p.checkState != 0 {
		return p.judge(ctx, env)
	}
	return p.serve(ctx, env)
}

// judge says whether this program would go on with a state of its predecessor's.
func (p *program) judge(ctx context.Context, env *cli.Env) error {
	p.cfg.Opener, p.cfg.Level = opener.Local(), &slog.LevelVar{}
	p.cfg.Level.Set(slog.LevelError)
	p.cfg.Log = p.logger(env.Stderr, env.Stderr)
	if err := p.complete(env); err != nil {
		return err
	}
	return daemon.CheckState(ctx, p.cfg, int(p.checkState))
}

// mebibytes stores a number of MiB as bytes.
func mebibytes(p *uint64) func(string) error {
	return func(v string) error {
		var n uint64
		if err := cli.Uint(&n, 1, 1<<40)(v); err != nil {
			return err
		}
		*p = n << 20
		return nil
	}
}

func seconds(p *time.Duration) func(string) error {
	return func(v string) error {
		var n uint64
		if err := cli.Uint(&n, 0, 1<<31)(v); err != nil {
			return err
		}
		*p = time.Duration(n) * time.Second
		return nil
	}
}
