"""Compiles the CUDA kernels with NVIDIA's compiler, which needs no GPU, into the files that the binary carries.

    pip install -r benches/gpu/requirements-compile.txt
    python benches/gpu/compile_kernels.py

`make cuda-kernels` does both. What is written is PTX, of which the driver makes code for the GPU that is there. Which
driver takes it depends on the compiler's version: the requirements pin one of CUDA 12.1, for drivers from 530 on.
"""

import ctypes
import glob
import gzip
import hashlib
import importlib.util
import pathlib
import re
import sys

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "infer/src/gpu/kernels"
SOURCES = ["common.cuh", "layers.cu", "pointwise.cu", "poses.cu"]
# The oldest GPUs that the kernels run on; and from where on there are asynchronous copies and larger matrix products.
ARCHITECTURES = ["compute_75", "compute_80"]


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


def compile_to_ptx(nvrtc: ctypes.CDLL, source: str, architecture: str) -> str:
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"cloudpose.cu", 0, None, None)
    arguments = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))

    def text(what: str) -> str:
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        return buffer.value.decode()

    log = text("ProgramLog").strip()
    if log:
        print(log)
    if status != 0 or log:
        sys.exit(f"{architecture}: the compiler complains (NVRTC status {status})")
    return text("PTX")


def main() -> None:
    source = "".join((KERNELS / name).read_text() for name in SOURCES)
    # A test compares it: what is carried was made of what is there.
    digest = hashlib.sha256(source.encode()).hexdigest()
    nvrtc = library()
    for architecture in ARCHITECTURES:
        ptx = f"// of sources with sha256 {digest}\n{compile_to_ptx(nvrtc, source, architecture)}"
        packed = gzip.compress(ptx.encode(), 9, mtime=0)
        (KERNELS / f"{architecture}.ptx.gz").write_bytes(packed)
        kernels = re.findall(r"\.visible \.entry (\w+)\(", ptx)
        print(f"{architecture}: {len(kernels)} kernels, {len(packed) >> 10} KiB: {', '.join(kernels)}")


if __name__ == "__main__":
    main()
