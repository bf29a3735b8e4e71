package main

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"os"
	"slices"
)

// shrink writes a picture anew with the 256 colours that it needs most, and returns how
// many bytes that are.
func shrink(from, to string) (int, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return 0, err
	}
	full, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, reduce(full)); err != nil {
		return 0, err
	}
	return out.Len(), os.WriteFile(to, out.Bytes(), 0o644) //nolint:gosec // It is part of the documentation.
}

// reduce draws a picture with 256 colours. Pictures of text are few flat colours and
// shades between them: cells of equal colours are halved where they are widest.
func reduce(full image.Image) *image.Paletted {
	counts := map[color.RGBA]int{}
	bounds := full.Bounds()
	at := func(x, y int) color.RGBA {
		r, g, b, _ := full.At(x, y).RGBA()
		return color.RGBA{R: uint8(r >> 8), G: uint8(g >> 8), B: uint8(b >> 8), A: 255}
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	var all colorBox
	for c, n := range counts {
		all = append(all, counted{c, n})
	}
	slices.SortFunc(all, func(x, y counted) int {
		return cmp.Or(cmp.Compare(x.R, y.R), cmp.Compare(x.G, y.G), cmp.Compare(x.B, y.B))
	})
	boxes := []colorBox{all}
	for len(boxes) < 256 {
		widest, most := -1, 0.0
		for i, box := range boxes {
			if _, spread := box.widest(); spread > most {
				widest, most = i, spread
			}
		}
		if widest < 0 {
			break
		}
		one, other := boxes[widest].halve()
		boxes[widest] = one
		boxes = append(boxes, other)
	}
	palette := make(color.Palette, len(boxes))
	index := map[color.RGBA]uint8{}
	for i, box := range boxes {
		palette[i] = box.mean()
		for _, c := range box {
			index[c.RGBA] = uint8(i)
		}
	}
	out := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			out.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	return out
}

// counted is a colour, and how many points have it.
type counted struct {
	color.RGBA
	n int
}

// channel is one of red, green and blue.
func (c *counted) channel(i int) float64 {
	return float64([...]uint8{c.R, c.G, c.B}[i])
}

// colorBox are colours that are drawn as one.
type colorBox []counted

// average is the mean of a channel, and how many points there are.
func (b colorBox) average(channel int) (mean, points float64) {
	for i := range b {
		mean += b[i].channel(channel) * float64(b[i].n)
		points += float64(b[i].n)
	}
	return mean / points, points
}

// widest is the channel by which the colours differ most, and how much it matters: rare
// colours less, but not in proportion, as a word in red is rare and matters.
func (b colorBox) widest() (channel int, spread float64) {
	for c := range 3 {
		mean, points := b.average(c)
		sum := 0.0
		for i := range b {
			away := b[i].channel(c) - mean
			sum += away * away * float64(b[i].n)
		}
		if s := sum / max(1, points) * cube(points); s > spread {
			channel, spread = c, s
		}
	}
	return channel, spread
}

// cube is about the cubic root, which is near enough.
func cube(n float64) float64 {
	root := 1.0
	for root*root*root < n {
		root *= 1.26
	}
	return root
}

// halve parts the colours at their mean.
func (b colorBox) halve() (low, high colorBox) {
	channel, _ := b.widest()
	mean, _ := b.average(channel)
	for _, c := range b {
		if c.channel(channel) <= mean {
			low = append(low, c)
		} else {
			high = append(high, c)
		}
	}
	return low, high
}

// mean is the colour that stands for all: the one of most points where it is most of
// them, as flat colours must stay what they are.
func (b colorBox) mean() color.RGBA {
	most := slices.MaxFunc(b, func(x, y counted) int { return cmp.Compare(x.n, y.n) })
	red, points := b.average(0)
	if float64(most.n) > points/2 {
		return most.RGBA
	}
	green, _ := b.average(1)
	blue, _ := b.average(2)
	return color.RGBA{R: uint8(red + 0.5), G: uint8(green + 0.5), B: uint8(blue + 0.5), A: 255}
}
