package virtiofs_test

import (
	"errors"
	"strings"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/virtiofs"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/internal/tlv"
	"vrafs/rafs"
	"vrafs/vhostuser/vhostusertest"
)

func TestGuestGoesOnAfterMigration(t *testing.T) {
	im := image(t, rafs.V6)
	guest := vhostusertest.GuestConfig{QueueSize: 512}
	a := newRig(t, im, fusesrvtest.StackOptions{At: "/image"}, virtiofs.Options{Queues: 1}, guest)
	c := a.start(t)
	root, err := fusesrvtest.Lookup(c, fusesrv.RootID, "image")
	if err != nil || root.NodeID == 0 {
		t.Fatalf("no root: %v", err)
	}
	want, err := fusesrvtest.Walk(c, root.NodeID, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.guest.Stop(a.conn); err != nil {
		t.Fatal(err)
	}
	state, err := a.conn.SaveState()
	if err != nil {
		t.Fatal(err)
	}

	b := newRig(t, im, fusesrvtest.StackOptions{At: "/image"}, virtiofs.Options{Queues: 1}, guest)
	if err := b.guest.Stop(b.conn); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.LoadState(state); err != nil {
		t.Fatal(err)
	}
	if err := b.guest.Activate(b.conn); err != nil {
		t.Fatal(err)
	}
	d := b.client(t, 1, vhostusertest.ClientConfig{}) // no INIT
	got, err := fusesrvtest.Walk(d, root.NodeID, 5)
	if err != nil {
		t.Fatal(err)
	}
	testimage.Compare(t, want, got, testtree.DiffOptions{SkipRoot: true})
	if got, want := *b.Server.Settings(), *a.Server.Settings(); got != want {
		t.Errorf("got settings %+v, want %+v", got, want)
	}
}

func TestRestoreRefusesWhatItCannotRead(t *testing.T) {
	im := image(t, rafs.V6)
	r := newRig(t, im, fusesrvtest.StackOptions{}, virtiofs.Options{}, vhostusertest.GuestConfig{})
	r.start(t)
	good := r.dev.State()
	e := tlv.Start("vrafsvfs", 2, 1)
	e.Uint(99|tlv.Required, 1)
	tests := []struct {
		name  string
		state []byte
		want  error
	}{
		{"empty", nil, tlv.ErrFormat},
		{"cut", good[:len(good)-1], tlv.ErrFormat},
		{"newer reader", tlv.Start("vrafsvfs", 9, 9).Finish(), tlv.ErrNewer},
		{"unknown required record", e.Finish(), tlv.ErrNewer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := r.dev.Restore(tt.state); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNewRefusesImpossibleOptions(t *testing.T) {
	for _, o := range []virtiofs.Options{{Queues: -1}, {Queues: 65}, {Workers: -1}, {Tag: strings.Repeat("t", 37)}} {
		if _, err := virtiofs.New(fusesrv.NewServer(fusesrv.Unsupported{}, fusesrv.Options{}), o); !errors.Is(err, virtiofs.ErrOptions) {
			t.Errorf("%+v: got %v, want ErrOptions", o, err)
		}
	}
}

func TestConfigurationSpaceHasTagAndQueues(t *testing.T) {
	d, err := virtiofs.New(fusesrv.NewServer(fusesrv.Unsupported{}, fusesrv.Options{}), virtiofs.Options{Tag: "kataShared", Queues: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := d.Properties()
	want := "kataShared" + strings.Repeat("\x00", 26) + "\x03\x00\x00\x00" + "\x00\x00\x00\x00"
	if string(p.Config) != want || p.Queues != 4 {
		t.Errorf("got %d queues, configuration %q, want 4, %q", p.Queues, p.Config, want)
	}
}
