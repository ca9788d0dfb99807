"""The protocol's own Python client, in Hermes' environment, as Hermes uses it.

Starts the server whose command line is in the arguments, lists its tools and calls each of those that standard input names, as a JSON
list of [name, arguments]. Prints one JSON document with what it got.
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main(command, calls):
    server = StdioServerParameters(command=command[0], args=command[1:])
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        hello = await session.initialize()
        await session.send_ping()
        tools = (await session.list_tools()).tools
        answers = [await session.call_tool(name, arguments) for name, arguments in calls]
    print(json.dumps({
        "server": hello.serverInfo.name,
        "protocol": hello.protocolVersion,
        "tools": [tool.model_dump(mode="json", exclude_none=True) for tool in tools],
        "answers": [{"isError": answer.isError, "text": answer.content[0].text} for answer in answers],
    }))


asyncio.run(main(sys.argv[1:], json.load(sys.stdin)))
