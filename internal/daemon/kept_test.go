package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/apiclient"
	"vrafs/internal/keeper"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// keptOption makes this program a FUSE daemon, or its keeper, in the directory that
// follows.
const keptOption = "--kept"

func TestMain(m *testing.M) {
	i := slices.Index(os.Args, keptOption)
	if i < 0 {
		os.Exit(m.Run())
	}
	if err := keptMain(os.Args[i+1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func keptMain(dir string) error {
	if slices.Contains(os.Args, "--"+keeper.Option+"="+keeper.Hold) {
		return keeper.Run(os.Args, func(text string) { fmt.Fprintln(os.Stderr, text) })
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	d, err := Start(context.Background(), Config{
		FUSE: &FUSE{Mountpoint: dir, Threads: 1, FailoverPolicy: "resend", Argv: keptArgv(),
			Resume: slices.Contains(os.Args, "--"+keeper.Option+"="+keeper.Resume)},
		Root: Root{Mountpoint: "/"}, APISocket: dir + ".api",
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Level: &slog.LevelVar{}, Opener: opener.Local(),
	})
	if err != nil {
		return err
	}
	go func() {
		<-signals
		_ = d.keeping.sock.Load().Close() // each further accept fails
	}()
	return d.Wait()
}

// keptArgv is the command line for a keeper, unless the environment wants none.
func keptArgv() []string {
	if os.Getenv("KEPT") == "no" {
		return nil
	}
	return os.Args
}

// startKept starts a FUSE daemon that SIGUSR1 breaks the control socket of, and
// returns once that answers.
func startKept(t *testing.T, kept string) (cmd *exec.Cmd, api *apiclient.Client, dir string) {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	dir = filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("/proc/self/exe", keptOption, dir)
	cmd.Env, cmd.Stderr = append(os.Environ(), "KEPT="+kept), os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	api = apiclient.New(dir + ".api")
	t.Cleanup(func() {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil { // ends whoever serves it
		}
		_ = cmd.Process.Kill()
		api.Close()
	})
	answers(t, api)
	return cmd, api, dir
}

// answers waits until a running daemon does.
func answers(t *testing.T, api *apiclient.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var info struct{ State string }
		err := api.Get(ctx, "/api/v1/daemon", &info)
		if err == nil && info.State == "RUNNING" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no answer: %+v, %v", info, err)
		}
	}
}

// breakSocket has the daemon lose its control socket, and waits for its end.
func breakSocket(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the daemon lives on without a control socket")
	}
}

// TestBrokenControlSocketIsReplaced by a successor's, which goes on with the mount.
func TestBrokenControlSocketIsReplaced(t *testing.T) {
	cmd, api, dir := startKept(t, "yes")
	breakSocket(t, cmd)
	answers(t, api)
	if _, err := os.ReadDir(dir); err != nil {
		t.Error(err)
	}
}

// TestBrokenControlSocketEndsADaemonWithoutKeeper: its clients take the end of their
// connections for its end, and wait for it.
func TestBrokenControlSocketEndsADaemonWithoutKeeper(t *testing.T) {
	cmd, _, dir := startKept(t, "no")
	breakSocket(t, cmd)
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	if unix.Unmount(dir, unix.MNT_DETACH) == nil {
		t.Error("still mounted")
	}
}

// TestKeeperThatCameLateIsReleased: one that was being started while the daemon ended
// must not take that end for a death.
func TestKeeperThatCameLateIsReleased(t *testing.T) {
	for _, tt := range []struct {
		cause    error
		released bool
	}{{errEnded, true}, {errExit, true}, {errFailed, false}} {
		t.Run(tt.cause.Error(), func(t *testing.T) {
			link, err := keeper.Spawn([]string{os.Args[0], keptOption, t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer link.Done()
			k := &keeping{}
			k.link.Store(link)
			ctx, end := context.WithCancelCause(t.Context())
			end(tt.cause)
			k.watch(ctx)
			if err := link.Hold(); errors.Is(err, keeper.ErrLost) != tt.released {
				t.Errorf("the link: %v", err)
			}
		})
	}
}
