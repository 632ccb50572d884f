"""Compiles the CUDA kernels with NVIDIA's compiler, as the engine does when it starts. Needs no GPU.

    pip install -r benches/gpu/requirements-compile.txt
    python benches/gpu/compile_kernels.py [--keep kernels.ptx]
"""

import argparse
import ctypes
import glob
import importlib.util
import pathlib
import re
import sys

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "infer/src/gpu"


def library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    found = [path for folder in folders for path in glob.glob(f"{folder}/**/libnvrtc.so.1[0-9]", recursive=True)]
    if not found:
        sys.exit("NVRTC is not installed: pip install -r benches/gpu/requirements-compile.txt")
    # NVRTC opens it by name, which finds it only if it is loaded already.
    for builtins in pathlib.Path(found[0]).parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins))
    return ctypes.CDLL(found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", metavar="FILE", type=pathlib.Path, help="write the PTX there")
    keep = parser.parse_args().keep

    launcher = (KERNELS / "cuda.rs").read_text()
    names = re.findall(r'include_str!\("(kernels/[^"]+)"\)', launcher)
    architecture = re.search(r'ARCHITECTURE: &str = "([^"]+)"', launcher)[1]
    source = "".join((KERNELS / name).read_text() for name in names)

    nvrtc = library()
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"cloudpose.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={architecture}".encode())
    status = nvrtc.nvrtcCompileProgram(program, 1, options)

    def text(what: str) -> str:
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        return buffer.value.decode()

    log = text("ProgramLog").strip()
    if log:
        print(log)
    if status != 0:
        sys.exit(f"the kernels do not compile (NVRTC status {status})")
    ptx = text("PTX")
    kernels = re.findall(r"\.visible \.entry (\w+)\(", ptx)
    if keep:
        keep.write_text(ptx)
    print(f"{len(kernels)} kernels for {architecture}: {', '.join(kernels)}")
    if log:
        sys.exit("the compiler warns")


if __name__ == "__main__":
    main()
