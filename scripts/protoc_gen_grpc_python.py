"""A protoc plugin that writes the Python service stubs, for `buf generate`.

grpcio-tools has the generator inside but ships no plugin program. buf hands a plugin the files as a
CodeGeneratorRequest on standard input; this hands them on to `grpc_tools.protoc` as a descriptor set and
answers with what that wrote.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def main() -> None:
    """Reads a CodeGeneratorRequest from standard input, writes the response to standard output."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with_services = {file.name for file in request.proto_file if file.service}
    wanted = [name for name in request.file_to_generate if name in with_services]
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        status = protoc.main(
            ["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={folder}", *wanted]
        )
        if status != 0:
            sys.exit(status)
        for path in sorted(Path(folder).rglob("*_pb2_grpc.py")):
            response.file.add(name=path.relative_to(folder).as_posix(), content=path.read_text("utf-8"))
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
