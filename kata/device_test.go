package kata

import (
	"errors"
	"strings"
	"testing"
)

func TestQEMUArgumentsAreKatas(t *testing.T) {
	got, err := QEMUArguments(Device{ID: "fs0", Tag: Tag, Socket: "/run/vc/vm/s/vhost-fs.sock"})
	if err != nil {
		t.Fatal(err)
	}
	want := "-chardev socket,id=char-fs0,path=/run/vc/vm/s/vhost-fs.sock " +
		"-device vhost-user-fs-pci,chardev=char-fs0,tag=kataShared,id=fs0,num-request-queues=1,queue-size=1024"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if got, err := QEMUArguments(Device{ID: "a", Tag: "t", Socket: "/s", Queues: 4, QueueSize: 256, Bus: "rp0"}); err != nil ||
		!strings.HasSuffix(got[3], ",num-request-queues=4,queue-size=256,bus=rp0") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestImpossibleDevicesAreRefused(t *testing.T) {
	good := Device{ID: "fs0", Tag: "t", Socket: "/s"}
	for name, change := range map[string]func(*Device){
		"no id":                      func(d *Device) { d.ID = "" },
		"id of an option":            func(d *Device) { d.ID = "fs0,packed=on" },
		"id with a digit first":      func(d *Device) { d.ID = "0fs" },
		"long id":                    func(d *Device) { d.ID = strings.Repeat("a", 65) },
		"bus of an option":           func(d *Device) { d.Bus = "pci.0,x=y" },
		"no tag":                     func(d *Device) { d.Tag = "" },
		"long tag":                   func(d *Device) { d.Tag = strings.Repeat("a", 37) },
		"tag with a comma":           func(d *Device) { d.Tag = "a,b" },
		"tag with a line break":      func(d *Device) { d.Tag = "a\nb" },
		"relative socket":            func(d *Device) { d.Socket = "s" },
		"long socket":                func(d *Device) { d.Socket = "/" + strings.Repeat("s", 107) },
		"socket with a comma":        func(d *Device) { d.Socket = "/a,server=on" },
		"too many queues":            func(d *Device) { d.Queues = 65 },
		"no power of two":            func(d *Device) { d.QueueSize = 1000 },
		"longer than the protocol's": func(d *Device) { d.QueueSize = 2048 },
	} {
		d := good
		change(&d)
		if _, err := QEMUArguments(d); !errors.Is(err, ErrDevice) {
			t.Errorf("%s: %v", name, err)
		}
		if err := (QEMU{QMP: "/none"}).AttachFS(t.Context(), d); !errors.Is(err, ErrDevice) {
			t.Errorf("%s: QEMU: %v", name, err)
		}
		if err := (CloudHypervisor{API: "/none"}).AttachFS(t.Context(), d); !errors.Is(err, ErrDevice) {
			t.Errorf("%s: Cloud Hypervisor: %v", name, err)
		}
	}
	for _, h := range []Hypervisor{QEMU{QMP: "/none"}, CloudHypervisor{API: "/none"}} {
		if err := h.DetachFS(t.Context(), "a b"); !errors.Is(err, ErrDevice) {
			t.Errorf("%T: %v", h, err)
		}
		if err := h.DetachFS(t.Context(), "a"); err == nil || errors.Is(err, ErrDevice) {
			t.Errorf("%T without a hypervisor: %v", h, err)
		}
	}
}

// FuzzQMPAnswer: a monitor may say anything.
func FuzzQMPAnswer(f *testing.F) {
	for _, line := range []string{`{"QMP":{"version":{}}}`, `{"return":{}}`, `{"error":{"class":"GenericError","desc":"no"}}`, `{"event":"RESET"}`, `{"return":null}`, "[]", ""} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if done, err := answerOf(line); err != nil && len(err.Error()) > 4096 {
			t.Errorf("%v, an error of %d bytes", done, len(err.Error()))
		}
	})
}
