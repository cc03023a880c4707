package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"vrafs/config"
	"vrafs/internal/cli"
	"vrafs/kata"
)

// A kataTool holds the command lines of vrafs kata.
type kataTool struct {
	setup        kata.Setup
	runtime, vmm string
	containerd   uint
	file         string
	options      []string
	device       kata.Device
	qmp, clh     string
}

func newKata() *cli.Command {
	k := &kataTool{runtime: string(kata.Go), vmm: string(kata.VMMQEMU), containerd: 2}
	k.setup = kata.Setup{}.WithDefaults()
	runtime := &cli.Option{Long: "runtime", Value: "runtime", Help: "Kata's runtime: the one in Go, or runtime-rs", Choices: kata.Runtimes(), Default: k.runtime, Set: cli.Str(&k.runtime)}
	return &cli.Command{Name: "kata", About: "Set up Kata Containers with vrafsd", Commands: []*cli.Command{
		{
			Name: "config", About: "Print the configuration files of a node that runs Kata over vrafsd",
			Options: []*cli.Option{
				runtime,
				{Long: "vmm", Value: "vmm", Help: "Hypervisor: QEMU, or Cloud Hypervisor", Choices: kata.VMMs(), Default: k.vmm, Set: cli.Str(&k.vmm)},
				{Long: "file", Value: "file", Help: "Print only this file, as it has to be", Choices: []string{"kata", "nydusd", "snapshotter", "containerd"}, Set: cli.Str(&k.file)},
				{Long: "daemon", Value: "path", Help: "Where vrafsd is installed", Default: k.setup.Daemon, Set: cli.Str(&k.setup.Daemon)},
				{Long: "nydus-image", Value: "path", Help: "Where vrafs is installed under the name nydus-image", Default: k.setup.Image, Set: cli.Str(&k.setup.Image)},
				{Long: "cache-dir", Value: "path", Help: "Directory for chunks, on a local file system", Default: k.setup.Cache, Set: cli.Str(&k.setup.Cache)},
				{Long: "containerd", Value: "version", Help: "Major version of containerd: 1 or 2", Default: "2", Set: cli.Uint(&k.containerd, 1, 2)},
				{Long: "runc", Help: "Containers of runc share the node: images are mounted on the host, too", Set: cli.Flag(&k.setup.Runc)},
			},
			Run: k.config,
		},
		{
			Name: "extraoption", About: "Show what the options of a root file system's mount tell a runtime, without credentials",
			Options: []*cli.Option{runtime},
			Args: []*cli.Arg{{Name: "OPTION", Help: "Mount options; \"extraoption=...\" is looked for", Required: true, Many: true,
				Set: func(v string) error { k.options = append(k.options, strings.Split(v, ",")...); return nil }}},
			Run: k.extraoption,
		},
		{
			Name: "attach", About: "Plug a daemon's device into a running machine",
			Args: k.deviceArg(),
			Options: append(k.machineOptions(),
				&cli.Option{Long: "sock", Value: "socket", Help: "The daemon's vhost-user socket, an absolute path", Required: true, Set: cli.Str(&k.device.Socket)},
				&cli.Option{Long: "tag", Value: "tag", Help: "What the guest mounts", Required: true, Set: cli.Str(&k.device.Tag)},
				&cli.Option{Long: "bus", Value: "bus", Help: "QEMU's bus to plug it in (default: QEMU's choice; machine q35 needs a root port)", Set: cli.Str(&k.device.Bus)}),
			Run: k.attach,
		},
		{Name: "detach", About: "Take a device away again", Args: k.deviceArg(), Options: k.machineOptions(), Run: k.detach},
	}}
}

func (k *kataTool) deviceArg() []*cli.Arg {
	return []*cli.Arg{{Name: "ID", Help: "The device's name in the hypervisor", Required: true, Set: cli.Str(&k.device.ID)}}
}

func (k *kataTool) machineOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "qmp", Value: "socket", Help: "QEMU's monitor (-qmp unix:SOCKET,server=on,wait=off)", RequiredUnless: []string{"clh"}, Conflicts: []string{"clh"}, Set: cli.Str(&k.qmp)},
		{Long: "clh", Value: "socket", Help: "Cloud Hypervisor's API (--api-socket)", Set: cli.Str(&k.clh)},
	}
}

// hotplugLimit is how long a guest may take to let go of a device.
const hotplugLimit = time.Minute

// machine is the one that the options name.
func (k *kataTool) machine() kata.Hypervisor {
	if k.clh != "" {
		return kata.CloudHypervisor{API: k.clh}
	}
	return kata.QEMU{QMP: k.qmp}
}

func (k *kataTool) attach(ctx context.Context, _ *cli.Env) error {
	ctx, cancel := context.WithTimeout(ctx, hotplugLimit)
	defer cancel()
	return k.machine().AttachFS(ctx, k.device)
}

func (k *kataTool) detach(ctx context.Context, _ *cli.Env) error {
	ctx, cancel := context.WithTimeout(ctx, hotplugLimit)
	defer cancel()
	return k.machine().DetachFS(ctx, k.device.ID)
}

func (k *kataTool) config(_ context.Context, env *cli.Env) error {
	s := k.setup
	s.Runtime, s.VMM, s.Containerd = kata.Runtime(k.runtime), kata.VMM(k.vmm), int(k.containerd)
	files, err := s.Files()
	if err != nil {
		return err
	}
	if k.file != "" {
		i := slices.IndexFunc(files, func(f kata.File) bool { return f.Name == k.file })
		_, err := fmt.Fprint(env.Stdout, files[i].Text)
		return err
	}
	for i, f := range files {
		gap := "\n"
		if i == 0 {
			gap = ""
		}
		if _, err := fmt.Fprintf(env.Stdout, "%s==> %s <==\n%s", gap, f.Path, f.Text); err != nil {
			return err
		}
	}
	return nil
}

func (k *kataTool) extraoption(_ context.Context, env *cli.Env) error {
	o, err := kata.ParseExtraOption(k.options, kata.Runtime(k.runtime))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(env.Stdout, "source       %s\nsnapshotdir  %s\nfs_version   %s\n", cli.Quote(o.Source), cli.Quote(o.SnapshotDir), cli.Quote(o.FSVersion)); err != nil {
		return err
	}
	c, err := config.Parse([]byte(o.Config))
	if err != nil {
		return fmt.Errorf("the configuration in it: %w", err)
	}
	text, err := json.MarshalIndent(c, "", "  ") // without secrets
	if err == nil {
		_, err = fmt.Fprintf(env.Stdout, "config       %s\n", text)
	}
	return err
}
