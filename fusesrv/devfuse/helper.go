package devfuse

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// helperProgram is the set-uid program that mounts for users.
const helperProgram = "fusermount3"

// mountByHelper has fusermount3 mount dir and gives the descriptor that it sends
// back over a socket.
func mountByHelper(dir string, writable bool) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount on %s: %w", dir, err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "fusermount")
	defer theirs.Close()
	options := fmt.Sprintf("fsname=%s,nosuid,nodev,noatime,default_permissions,max_read=%d", source, maxRead)
	if !writable {
		options += ",ro"
	}
	cmd := exec.Command(helperProgram, "-o", options, "--", dir)
	cmd.Env = []string{"_FUSE_COMMFD=3", "PATH=" + os.Getenv("PATH")}
	cmd.ExtraFiles = []*os.File{theirs}
	if out, err := cmd.CombinedOutput(); err != nil {
		return -1, fmt.Errorf("mount on %s without privileges: %w: %s", dir, err, strings.TrimSpace(string(out)))
	}
	fd, err := receiveFD(pair[0])
	if err != nil {
		return -1, errors.Join(fmt.Errorf("%s: %w", helperProgram, err), unmountByHelper(dir))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return -1, errors.Join(fmt.Errorf("%s: %w", device, err), unix.Close(fd), unmountByHelper(dir))
	}
	return fd, nil
}

// receiveFD takes one descriptor from a socket.
func receiveFD(sock int) (int, error) {
	var data [16]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(sock, data[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return -1, err
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.New("no descriptor came")
}

func unmountByHelper(dir string) error {
	out, err := exec.Command(helperProgram, "-u", "-z", "--", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("unmount %s: %w: %s", dir, err, strings.TrimSpace(string(out)))
	}
	return nil
}
