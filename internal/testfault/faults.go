package testfault

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Latency passes a request on after a while.
func Latency(d time.Duration) Fault {
	return func(x *Exchange) {
		if x.wait(d) {
			x.Pass()
		}
	}
}

// wait waits; it reports false if the client goes away before.
func (x *Exchange) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.R.Context().Done():
		return false
	}
}

// Stall never answers.
func Stall(x *Exchange) { <-x.R.Context().Done() }

// StallBody answers half, and then no more.
func StallBody(x *Exchange) {
	if half, ok := x.half(); ok {
		_, _ = x.W.Write(half)
		x.flush()
		Stall(x)
	}
}

// SlowLoris answers a byte at a time, with pauses.
func SlowLoris(pause time.Duration) Fault {
	return func(x *Exchange) {
		half, ok := x.half()
		for i := 0; ok && i < len(half) && x.wait(pause); i++ {
			_, _ = x.W.Write(half[i : i+1])
			x.flush()
		}
	}
}

// HangUp ends the connection without a word.
func HangUp(x *Exchange) { x.hijack("", false) }

// Reset resets the connection without a word.
func Reset(x *Exchange) { x.hijack("", true) }

// ResetBody resets it after half of the answer.
func ResetBody(x *Exchange) {
	if half, ok := x.half(); ok {
		_, _ = x.W.Write(half)
		x.flush()
		x.hijack("", true)
	}
}

// Truncate ends the connection after half of the answer.
func Truncate(x *Exchange) {
	if half, ok := x.half(); ok {
		_, _ = x.W.Write(half) // the server hangs up, since more was promised
	}
}

// WrongBytes changes some of the data.
func WrongBytes(x *Exchange) {
	x.change(func(_ http.Header, body []byte) []byte {
		for i := 0; i < len(body); i += 1000 {
			body[i] ^= 0x40
		}
		return body
	})
}

// WrongLength leaves the last bytes away, and says so, but in the length only.
func WrongLength(x *Exchange) {
	x.change(func(_ http.Header, body []byte) []byte { return body[:len(body)-len(body)/4-1] })
}

// WrongRange gives data from the blob's beginning, whatever was asked for, and says so.
func WrongRange(x *Exchange) {
	first, last, _ := strings.Cut(strings.TrimPrefix(x.R.Header.Get("Range"), "bytes="), "-")
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err1 != nil || err2 != nil || from == 0 {
		x.Miss()
	} else {
		x.R.Header.Set("Range", fmt.Sprintf("bytes=0-%d", to-from))
	}
	x.Pass()
}

// NoRange gives the blob as a whole, whatever was asked for.
func NoRange(x *Exchange) {
	if x.R.Header.Get("Range") == "" {
		x.Miss()
	}
	x.R.Header.Del("Range")
	x.Pass()
}

// Endless gives more data than was asked for, without end.
func Endless(x *Exchange) {
	if x.change(func(h http.Header, body []byte) []byte {
		h.Del("Content-Length")
		return body
	}) {
		x.flood()
	}
}

// EndlessHeaders has no end of headers.
func EndlessHeaders(x *Exchange) {
	conn := x.hijack("HTTP/1.1 206 Partial Content\r\n", false)
	if conn == nil {
		return
	}
	defer conn.Close()
	for err := error(nil); err == nil; {
		_, err = io.WriteString(conn, "X-More: "+strings.Repeat("x", 1000)+"\r\n")
	}
}

// NoHTTP speaks another protocol.
func NoHTTP(x *Exchange) {
	if conn := x.hijack("220 mail.test ESMTP\r\n", false); conn != nil {
		_ = conn.Close()
	}
}

// Stale shows the server a token that it doesn't take.
func Stale(x *Exchange) {
	if x.R.Header.Get("Authorization") != "" {
		x.R.Header.Set("Authorization", "Bearer stale")
	} else {
		x.Miss()
	}
	x.Pass()
}

// Status answers with a status, a header of "Name: value" lines, and a page of text.
func Status(code int, header ...string) Fault {
	return func(x *Exchange) {
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			x.W.Header().Set(name, value)
		}
		http.Error(x.W, "trouble", code)
	}
}

// data asks the server for data. What is none, or can't be had, is answered as it is,
// and missed.
func (x *Exchange) data() (body []byte, status int, ok bool) {
	resp := x.Ask()
	if resp == nil {
		x.Miss()
		return nil, 0, false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && len(body) > 0 && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent) {
		return body, resp.StatusCode, true
	}
	x.Miss()
	x.W.WriteHeader(resp.StatusCode)
	_, _ = x.W.Write(body)
	return nil, 0, false
}

// half asks the server and gives half of its answer. Its headers are sent; they promise
// all of it.
func (x *Exchange) half() (data []byte, ok bool) {
	body, status, ok := x.data()
	if !ok {
		return nil, false
	}
	x.W.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.W.WriteHeader(status)
	return body[:len(body)/2], true
}

// change asks the server and answers with a changed body, of the length that it has. It
// reports whether there was anything to change.
func (x *Exchange) change(f func(h http.Header, body []byte) []byte) bool {
	body, status, ok := x.data()
	if !ok {
		return false
	}
	body = f(x.W.Header(), body)
	if x.W.Header().Get("Content-Length") != "" {
		x.W.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	x.W.WriteHeader(status)
	_, _ = x.W.Write(body)
	return true
}

// flood writes until the client goes away.
func (x *Exchange) flood() {
	more := bytes.Repeat([]byte("more "), 10_000)
	for err := error(nil); err == nil; {
		_, err = x.W.Write(more)
	}
}

func (x *Exchange) flush() { _ = http.NewResponseController(x.W).Flush() }

// hijack takes the connection, writes text as it is, and gives the connection, or closes
// it if there is no text.
func (x *Exchange) hijack(text string, reset bool) net.Conn {
	conn, rw, err := http.NewResponseController(x.W).Hijack()
	if err != nil {
		return nil
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	if text == "" {
		_ = conn.Close()
		return nil
	}
	_, _ = rw.WriteString(text)
	_ = rw.Flush()
	return conn
}
