from typing import Any

class _FFI:
    class CData:
        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: int) -> Any: ...

    NULL: Any
    errno: int
    def new(self, kind: str, value: object = ...) -> Any: ...
    def string(self, value: object) -> bytes: ...

class _Lib:
    def __getattr__(self, name: str) -> Any: ...

ffi: _FFI
lib: _Lib
