package backend

import "io"

// Fill is a writer that fills p and takes no more. It reads from a Streamer itself, so
// that bytes go straight to p.
func Fill(p []byte) io.Writer { return &filler{p} }

type filler struct{ left []byte }

func (f *filler) Write(p []byte) (int, error) {
	n := copy(f.left, p)
	f.left = f.left[n:]
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom.
func (f *filler) ReadFrom(r io.Reader) (n int64, err error) {
	for len(f.left) > 0 && err == nil {
		var got int
		got, err = r.Read(f.left)
		f.left = f.left[got:]
		n += int64(got)
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}
