// Checks an exported log with the libraries of Go's checksum database, which know nothing of ours.
//
//	checklog FOLDER VKEY OLDER INDEX...
//
// FOLDER is what export_ledger wrote, OLDER an earlier checkpoint's file, INDEX entries to prove.
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8
const width = 1 << height

type files struct{ folder string }

func (f files) Height() int { return height }

func (f files) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

// ReadTiles reads tile/L/N where Go's own layout has tile/8/L/N.
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(f.folder, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// open returns the head that a checkpoint states, signed by the key.
func open(path string, verifier note.Verifier) tlog.Tree {
	data, err := os.ReadFile(path)
	check(err)
	opened, err := note.Open(data, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		check(fmt.Errorf("%s: not a checkpoint of %s", path, verifier.Name()))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size}
	if copy(tree.Hash[:], root) != sha256.Size || len(root) != sha256.Size {
		check(fmt.Errorf("%s: not a root", path))
	}
	return tree
}

// entry returns the bytes of one entry from its bundle.
func entry(folder string, tree tlog.Tree, index int64) []byte {
	count := int(tree.N - index/width*width)
	if count > width {
		count = width
	}
	tile := tlog.Tile{H: height, L: -1, N: index / width, W: count}
	path := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(folder, path))
	check(err)
	for skip := index % width; ; skip-- {
		length := int(binary.BigEndian.Uint16(data))
		if skip == 0 {
			return data[2 : 2+length]
		}
		data = data[2+length:]
	}
}

func main() {
	if len(os.Args) < 4 {
		check(fmt.Errorf("expected FOLDER VKEY OLDER INDEX..."))
	}
	folder := os.Args[1]
	verifier, err := note.NewVerifier(os.Args[2])
	check(err)
	tree := open(filepath.Join(folder, "checkpoint"), verifier)
	reader := tlog.TileHashReader(tree, files{folder})

	older := open(os.Args[3], verifier)
	growth, err := tlog.ProveTree(tree.N, older.N, reader)
	check(err)
	check(tlog.CheckTree(growth, tree.N, tree.Hash, older.N, older.Hash))

	for _, text := range os.Args[4:] {
		index, err := strconv.ParseInt(text, 10, 64)
		check(err)
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		check(err)
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry(folder, tree, index))))
		for _, hash := range proof {
			fmt.Printf("%d %s\n", index, hash)
		}
	}
	fmt.Printf("ok %s %d %s\n", verifier.Name(), tree.N, tree.Hash)
}
