"""The executable has machine code for the architectures it was configured for, and PTX for those without "-real". A driver
compiles PTX for newer devices.

    test_kernel_images.py EXECUTABLE ARCHITECTURES      such as "80-real;90;120-real"
"""
import collections
import struct
import sys

PTX, MACHINE_CODE = 1, 2


def images(data):
    """{(kind, architecture): count} of the images that nvcc has embedded: headers of 16 bytes, then entries."""
    found, at = collections.Counter(), 0
    while (at := data.find(struct.pack("<I", 0xBA55ED50), at)) >= 0:
        _, version, header, size = struct.unpack_from("<IHHQ", data, at)
        end = at + header + size
        if (version, header) != (1, 16) or end > len(data):
            at += 4
            continue
        entry = at + header
        while entry + 32 <= end:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, entry)
            found[kind, struct.unpack_from("<I", data, entry + 28)[0]] += 1
            entry += header + size
        at = end
    return found


def main():
    executable, architectures = sys.argv[1:]
    with open(executable, "rb") as file:
        found = images(file.read())
    expected = set()
    for word in architectures.split(";"):
        number, _, kind = word.partition("-")
        if kind != "virtual":
            expected.add((MACHINE_CODE, int(number)))
        if kind != "real":
            expected.add((PTX, int(number)))
    if set(found) != expected:
        sys.exit(f"images (1: PTX, 2: machine code; architecture) are {sorted(found)}, expected {sorted(expected)}")
    print(dict(found))


main()
