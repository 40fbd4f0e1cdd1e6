// Makes ../go.jsonl: what the standard library of Go makes of random headers,
// values, times and names. Run with: GOEXPERIMENT=jsonv2 go run main.go > ../go.jsonl
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	jsonv2 "encoding/json/v2"
	"fmt"
	"math"
	"math/rand"
	"os"
	"regexp"
	"strings"
	"time"
)

var w = bufio.NewWriter(os.Stdout)
var r = rand.New(rand.NewSource(20261123))

func emit(v map[string]any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	w.Write(b.Bytes())
}
func hx(s string) string { return hex.EncodeToString([]byte(s)) }

func word(n int, alphabet string) string {
	rs := []rune(alphabet)
	var b strings.Builder
	for i := 0; i < n; i++ {
		b.WriteRune(rs[r.Intn(len(rs))])
	}
	return b.String()
}
func name() string {
	alpha := "abc0_."
	switch r.Intn(8) {
	case 0:
		alpha = "abcé日"
	case 1:
		alpha = "ab//."
	}
	var n int
	switch r.Intn(6) {
	case 0:
		n = r.Intn(20) + 1
	case 1:
		n = 90 + r.Intn(20)
	case 2:
		n = 145 + r.Intn(20)
	case 3:
		n = 245 + r.Intn(20)
	default:
		n = r.Intn(400) + 1
	}
	s := word(n, alpha)
	for k := r.Intn(5); k > 0; k-- {
		i := r.Intn(len(s) + 1)
		s = s[:i] + "/" + s[i:]
	}
	if r.Intn(2) == 0 {
		s = "/" + s
	}
	switch r.Intn(20) {
	case 0:
		s += "/"
	case 1:
		s += "\xff"
	case 2:
		s = "/"
	case 3:
		s = strings.Repeat("d/", r.Intn(160)) + "f"
	case 4:
		s = word(r.Intn(160)+1, "ab") + "/" + word(r.Intn(110)+1, "ab")
	}
	return s
}
func num(small int64, edges ...int64) int64 {
	if r.Intn(4) > 0 {
		return r.Int63n(small)
	}
	return edges[r.Intn(len(edges))]
}
func owner() string {
	switch r.Intn(6) {
	case 0:
		return "postgrés"
	case 1:
		return word(30+r.Intn(6), "abc")
	case 2:
		return ""
	}
	return "postgres"
}

func tars() {
	for i := 0; i < 300; i++ {
		h := tar.Header{Name: name(), Mode: num(010000, 07777777, 010000000, 1<<32-1, 0), Uid: int(num(100000, 2097151, 2097152, 1<<32-1)),
			Gid: int(num(100000, 2097151, 2097152, 1<<32-1)), Uname: owner(), Gname: owner(),
			ModTime: time.Unix(num(1<<31, 0, -1, -1<<40, 8589934591*8, 077777777777, 077777777777+1, 1<<50, -62135596800+1), 0)}
		if h.Mode > 0177777 && r.Intn(4) > 0 {
			h.Mode = 0600
		}
		kind := "file"
		switch r.Intn(8) {
		case 0:
			h.Typeflag, kind = tar.TypeDir, "directory"
		case 1:
			h.Typeflag, h.Linkname, kind = tar.TypeSymlink, name(), "symlink"
		case 2:
			h.Typeflag, h.Linkname, kind = tar.TypeLink, name(), "hardlink"
		case 3:
			h.Typeflag, kind = tar.TypeChar, "char"
			h.Devmajor, h.Devminor = num(256, 2097151, 2097152), num(256, 1<<20, 1<<31)
		case 4:
			h.Typeflag, kind = tar.TypeFifo, "fifo"
		default:
			h.Typeflag = tar.TypeReg
			h.Size = num(1<<33, 0, 1<<33-1, 1<<33, 1<<40, math.MaxInt64)
		}
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		err := tw.WriteHeader(&h)
		out := map[string]any{"is": "tar", "kind": kind, "name": hx(h.Name), "link": hx(h.Linkname), "mode": h.Mode, "uid": h.Uid, "gid": h.Gid,
			"uname": h.Uname, "gname": h.Gname, "mtime": h.ModTime.Unix(), "size": h.Size, "major": h.Devmajor, "minor": h.Devminor}
		if err == nil {
			s := sha256.Sum256(b.Bytes())
			out["length"] = b.Len()
			out["sha256"] = hex.EncodeToString(s[:])
			// What the reader of Go makes of it.
			got, err := tar.NewReader(&b).Next()
			if err != nil {
				panic(fmt.Sprint(err, h))
			}
			out["read"] = map[string]any{"name": hx(got.Name), "link": hx(got.Linkname), "mode": got.Mode, "uid": got.Uid, "gid": got.Gid, "uname": got.Uname,
				"gname": got.Gname, "mtime": got.ModTime.Unix(), "size": got.Size}
		}
		emit(out)
	}
}

func anyJSON(depth int) string {
	switch k := r.Intn(9); {
	case k == 0:
		return "null"
	case k == 1:
		return []string{"true", "false"}[r.Intn(2)]
	case k <= 3:
		switch r.Intn(5) {
		case 0:
			return fmt.Sprint(r.Int63())
		case 1:
			return fmt.Sprintf("%g", r.NormFloat64()*math.Pow(10, float64(r.Intn(60)-30)))
		case 2:
			return []string{"1e21", "1E20", "-0", "0.000001", "1e-7", "1.0", "100e-2", "5e-324", "1e400", "01", "1.", "-", "9007199254740993"}[r.Intn(13)]
		case 3:
			return fmt.Sprintf("%d.%d", r.Intn(1000), r.Intn(1000))
		}
		return fmt.Sprint(r.Intn(100))
	case k <= 5:
		return []string{`"plain"`, `"<a>&b"`, `"\u2028\u2029"`, "\"\u2028é\"", `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00x"`, `"\ud83d\ud83d\ude00"`, "\"\xff\xfe\"", `"\b\f\n\r\t\/\\\""`,
			`"\u0001\u001f"`, `"\x"`, "\"\x01\"", `"\u00g0"`, "\"\u007f\"", `""`}[r.Intn(16)]
	case depth > 3:
		return "[]"
	case k == 6:
		var p []string
		for i := r.Intn(4); i > 0; i-- {
			p = append(p, anyJSON(depth+1))
		}
		return "[" + strings.Join(p, " , ") + []string{"]", "]", "]", "]", "]", "]", ",]"}[r.Intn(7)]
	default:
		var p []string
		for i := r.Intn(5); i > 0; i-- {
			p = append(p, []string{`"a"`, `"b"`, `"B"`, `"é"`, `"a"`, `"Z"`, `"<"`, `""`}[r.Intn(8)]+": "+anyJSON(depth+1))
		}
		return "{" + strings.Join(p, "\n,") + "}"
	}
}
func docs() {
	for i := 0; i < 400; i++ {
		s := anyJSON(0)
		var v any
		out := map[string]any{"is": "any", "json": hx(s)}
		if json.Unmarshal([]byte(s), &v) == nil {
			b, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			out["v1"] = hx(string(b))
		}
		emit(out)
	}
	for i := 0; i < 120; i++ {
		var b strings.Builder
		for n := r.Intn(12); n > 0; n-- {
			b.WriteRune([]rune{rune(r.Intn(128)), rune(r.Intn(0x3000)), '<', '>', '&', 0x2028, 0x2029, 0xfffd, 0x1f600, '"', '\\', 0x7f}[r.Intn(12)])
		}
		v1, _ := json.Marshal(b.String())
		v2, err := jsonv2.Marshal(b.String())
		if err != nil {
			panic(err)
		}
		emit(map[string]any{"is": "string", "text": hx(b.String()), "v1": hx(string(v1)), "v2": hx(string(v2))})
	}
	for i := 0; i < 300; i++ {
		f := math.Float64frombits(r.Uint64())
		if i%3 == 0 {
			f = r.NormFloat64() * math.Pow(10, float64(r.Intn(50)-25))
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		b, _ := json.Marshal(f)
		emit(map[string]any{"is": "float", "bits": fmt.Sprintf("%016x", math.Float64bits(f)), "text": string(b)})
	}
}
func times() {
	for i := 0; i < 200; i++ {
		secs := r.Int63n(253402300800+62135596800) - 62135596800
		ns := []int64{0, 1, 999999999, 120000000, 1000, int64(r.Intn(1000000000))}[r.Intn(6)]
		off := []int{0, 0, 3 * 3600, -(3*3600 + 1800), 14 * 3600, 5*3600 + 2700}[r.Intn(6)]
		t := time.Unix(secs, ns).UTC()
		l := t.In(time.FixedZone("", off))
		if l.Year() < 0 || l.Year() > 9999 {
			continue
		}
		emit(map[string]any{"is": "time", "secs": secs, "nanos": ns, "offset": off, "rfc3339nano": l.Format(time.RFC3339Nano), "rfc3339": l.Format(time.RFC3339),
			"rfc850": t.Format(time.RFC850), "default": t.String(), "rounded": time.Unix(secs, ns).Round(time.Second).Unix()})
	}
	pieces := []string{"2026-11-23T09:08:43", "2026-02-29T09:08:43", "0000-01-01T00:00:00", "2026-11-23 09:08:43", "2026-11-23t09:08:43", "2026-11-23T24:00:00", "2026-11-23T23:59:60",
		"2026-13-01T00:00:00", "2026-11-23T9:08:43", "9999-12-31T23:59:59"}
	fr := []string{"", "", ".5", ".123456789", ".1234567899", ".", ",5", ".000000001"}
	zn := []string{"Z", "Z", "+00:00", "+03:00", "-03:30", "+23:59", "+24:00", "+03:60", "z", "", "+0300", "-00:00", " Z"}
	for _, p := range pieces {
		for i := 0; i < 12; i++ {
			s := p + fr[r.Intn(len(fr))] + zn[r.Intn(len(zn))]
			var t time.Time
			out := map[string]any{"is": "parse", "text": s}
			if t.UnmarshalText([]byte(s)) == nil {
				_, off := t.Zone()
				out["secs"], out["nanos"], out["offset"] = t.Unix(), t.Nanosecond(), off
			}
			emit(out)
		}
	}
}
func names() {
	control := regexp.MustCompile(`^.*?pg_control\.tar(\..+$|$)`)
	label := regexp.MustCompile(`^.*?backup_label\.tar(\..+$|$)`)
	wale := regexp.MustCompile(`^([^_]+._{1}[^_]+._{1})`)
	backup := regexp.MustCompile(`base_[0-9A-F]{24}(_D_[0-9A-F]{24})?(_[0-9A-F]{8})?`)
	lsn := regexp.MustCompile(`[0-9A-F]{24}`)
	seg := func() string { return word(23+r.Intn(9)/4, "0123456789ABCDEF") }
	for i := 0; i < 400; i++ {
		var s string
		switch r.Intn(4) {
		case 0:
			s = word(r.Intn(9), "ab_é")
		case 1:
			s = []string{"", "x", "x/"}[r.Intn(3)] + []string{"pg_control", "backup_label", "part_001"}[r.Intn(3)] + []string{".tar", ".tar", "tar"}[r.Intn(3)] + []string{"", ".", ".lz4", "x", ".a.b"}[r.Intn(5)]
		default:
			s = []string{"", "", "x/", "base_"}[r.Intn(4)] + "base_" + seg()
			if r.Intn(2) == 0 {
				s += "_D_" + seg()
			}
			if r.Intn(3) == 0 {
				s += "_" + word(7+r.Intn(3), "0123456789ABCDEF")
			}
			if r.Intn(3) == 0 {
				s += "_backup_stop_sentinel.json"
			}
		}
		first := lsn.FindString(s)
		if first == "" {
			first = strings.Repeat("Z", 24)
		}
		emit(map[string]any{"is": "name", "name": s, "pg_control": control.MatchString(s), "backup_label": label.MatchString(s), "wale": wale.MatchString(s), "backup": backup.FindString(s), "wal": first})
	}
}
func main() {
	tars()
	docs()
	times()
	names()
	w.Flush()
}
