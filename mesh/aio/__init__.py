"""An asyncio kit that knows nothing about meshes."""
