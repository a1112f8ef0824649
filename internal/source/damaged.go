package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// ErrDamaged says that a packed log cannot be unpacked to its end: it was cut off, or something else is in it.
var ErrDamaged = errors.New("the packed data is damaged")

// damaged marks an error of unpacking, unless it is one of reading the file, or of our bound on memory.
func damaged(err error) error {
	var reading *fs.PathError
	if errors.As(err, &reading) || errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return err
	}
	if errors.Is(err, io.EOF) { // of the header's reader
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// unpacker reads packed data, and calls damage so.
type unpacker struct{ io.Reader }

func (u unpacker) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = damaged(err)
	}
	return n, err
}

// namedPacked says whether the name promises packed data. What is plain under such a name is what somebody's disk or
// copying left of it, and reading it as text would find nothing and say so with confidence.
func namedPacked(path string) bool {
	switch filepath.Ext(path) {
	case ".gz", ".zst":
		return true
	}
	return false
}
